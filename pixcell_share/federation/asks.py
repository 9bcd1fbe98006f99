"""What each kind of round asks for: frozen documents, read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pixcell_share.errors import SettingsError
from pixcell_share.federation.reasons import Reason, RefusedRoundError

_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Fields of numbers and texts, each of the kind of its default."""

    def document(self) -> dict[str, Any]:
        """As it stands in a request."""
        return asdict(self)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What is asked where nothing is said; the kinds of the fields, too."""
        return {field.name: field.default for field in fields(cls)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read what a hub asks.

        Raises:
            RefusedRoundError: a field is unknown or of another kind, or a value cannot be.
        """
        kinds = {name: type(value) for name, value in cls.defaults().items()}
        for name, value in document.items():
            wanted = kinds.get(name)
            if wanted is None or not _fits(value, wanted):
                raise RefusedRoundError(Reason.MALFORMED)
        try:
            return cls(**document)
        except SettingsError as error:
            raise RefusedRoundError(Reason.MALFORMED) from error


def _fits(value: Any, kind: type) -> bool:
    """Whether it is of ``kind``; a whole number will do for any finite number."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


@dataclass(frozen=True, kw_only=True)
class CohortAsk(Ask):
    """A cohort round: a synthetic cohort, signed and sent by the hub's upload."""

    tiles_per_class: int = 8
    """About so many tiles of each class; what the site's limit allows is never exceeded."""
    model: str = "nano"
    """A name that the site's ``[federation.models]`` knows."""
    mix: int = 1
    """Patients behind each tile."""
    dp_epsilon: float = 0.0
    """Of the conditioning statistics; 0 for none."""
    steps: int = 20
    """Denoising steps."""

    def __post_init__(self) -> None:
        for name in ("tiles_per_class", "mix", "steps"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise SettingsError(f"{name} is not 1 to {_MOST}", "ask for something else")
        if self.dp_epsilon < 0:
            raise SettingsError("dp_epsilon is below 0", "0 asks for none")
        if self.dp_epsilon and self.mix > 1:
            raise SettingsError("mix and dp_epsilon exclude each other", "leave one out")
