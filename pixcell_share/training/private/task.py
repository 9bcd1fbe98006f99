"""One round of a federated private training, as a hub asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pixcell_share.errors import SettingsError
from pixcell_share.training.private.settings import PrivacySettings, TrainingSettings
from pixcell_share.training.private.signed import is_training_name

_REMEDY = "ask the hub's operator for a task that this version knows"


@dataclass(frozen=True, kw_only=True)
class AdapterTask:
    """What a site is asked to do; nothing in it names a path or a file."""

    training: str
    """Name of the training; letters, digits, ``.``, ``_`` and ``-``, at most 64."""
    round: int
    """From 1 on."""
    rounds: int
    """Of the training. Its epsilon is for all of them together."""
    base_sha256: str
    """Digest of the generator that is adapted."""
    privacy: PrivacySettings
    """What is promised over all rounds; ``steps`` is a multiple of ``rounds``."""
    local: TrainingSettings
    """What is learned."""

    def __post_init__(self) -> None:
        """Refuse a task that cannot be done.

        Raises:
            SettingsError: naming the entry.
        """
        if not is_training_name(self.training):
            raise SettingsError(f"{ascii(self.training)[:80]} is no name of a training", _REMEDY)
        if not 1 <= self.round <= self.rounds:
            raise SettingsError(f"round {self.round} of {self.rounds}", _REMEDY)
        if self.privacy.steps % self.rounds:
            raise SettingsError(
                f"{self.privacy.steps} steps do not divide into {self.rounds} rounds", _REMEDY
            )

    @property
    def steps(self) -> range:
        """Those of this round, counted over all rounds."""
        each = self.privacy.steps // self.rounds
        return range((self.round - 1) * each, self.round * each)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"privacy": self.privacy.to_json(), "local": self.local.to_json()}

    @classmethod
    def from_json(cls, values: Any) -> AdapterTask:
        """From what `to_json` gave, or somebody else sent.

        Raises:
            SettingsError: an entry is unknown, missing, of another type or out of range.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            raise SettingsError("the entries are not those of an adapter task", _REMEDY)
        for name in ("round", "rounds"):
            if type(values[name]) is not int:
                raise SettingsError(f"{name} is no whole number", _REMEDY)
        for name in ("training", "base_sha256"):
            if not isinstance(values[name], str):
                raise SettingsError(f"{name} is no text", _REMEDY)
        return cls(
            **values
            | {
                "privacy": PrivacySettings.from_json(values["privacy"]),
                "local": TrainingSettings.from_json(values["local"]),
            }
        )
