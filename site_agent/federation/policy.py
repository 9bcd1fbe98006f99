"""What a site allows a hub to ask: the table ``[federation]`` of site.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time

from pixcell_share.errors import SettingsError
from pixcell_share.federation import RoundKind

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, kw_only=True)
class FederationPolicy:
    """Each entry closes something; what is left out keeps the stricter of what is usual."""

    rounds: tuple[str, ...] = ()
    """Kinds of rounds that are allowed: cohort, adapter, encoder, probe. None by default."""
    slides: str = ""
    """Folder of the slides that rounds work on."""
    tiles: str = ""
    """Folder of tiles, in place of ``slides``."""
    table: str = ""
    """Their table, with patients and labels."""
    patient_column: str = "case_id"
    """Of a table of tiles."""
    label_column: str = "label"
    """Of a table of tiles."""
    models: Mapping[str, str] = field(default_factory=lambda: {"nano": "nano"})
    """Models that may be asked for: the name in a request, and the folder or repository here."""
    encoder: str = ""
    """Encoder that goes with the models; empty: the one that a model was trained with."""
    weights: str = ""
    """Folder or repository of its weights."""
    tiles_per_class: int = 1000
    """Synthetic tiles of any one class in one round, at most."""
    patients: int = 5
    """Patients of this site behind any figure or update that leaves it, at least."""
    epsilon: float = 8.0
    """Of one round with differential privacy, at most."""
    without_dp: bool = False
    """Whether weights trained without differential privacy may leave the site."""
    hours: str = ""
    """When work may be done, such as ``19:00-06:30`` by this machine's clock; empty: always."""
    gpu_lock: str = ""
    """A file that is locked (flock) while a round works, and that others lock in their turn."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

    def __post_init__(self) -> None:
        """Lists of TOML become tuples; what cannot be is refused."""
        object.__setattr__(self, "rounds", tuple(self.rounds))
        known = {kind.value for kind in RoundKind}
        if unknown := sorted(set(self.rounds) - known):
            raise _wrong(f"rounds names {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
        if self.hours and not _HOURS.fullmatch(self.hours):
            raise _wrong(f"hours = {self.hours!r} is no span", 'write it as "19:00-06:30"')
        for name in ("tiles_per_class", "patients"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise _wrong(f"{name} is no number from 1", "mend it")
        if not self.epsilon > 0:
            raise _wrong("epsilon is not above 0", "3 is usual")
        if self.slides and self.tiles:
            raise _wrong("slides and tiles are both set", "keep one of them")

    def allows(self, kind: RoundKind) -> bool:
        """Whether such a round may be asked."""
        return kind.value in self.rounds

    def works_at(self, now: datetime) -> bool:
        """Whether ``now``, by the local clock, lies in the working hours."""
        found = _HOURS.fullmatch(self.hours)
        if not found:
            return True
        first, last = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
        moment = now.time()
        if first <= last:
            return first <= moment < last
        return moment >= first or moment < last


def _wrong(cause: str, remedy: str) -> SettingsError:
    return SettingsError(f"site.toml: [federation] {cause}", remedy)
