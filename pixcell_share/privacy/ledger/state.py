"""What the entries of a ledger come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pixcell_share.privacy.ledger.budget import Exposure, Total
from pixcell_share.privacy.ledger.entry import Entry
from pixcell_share.privacy.ledger.files import Mark


@dataclass(frozen=True)
class Release:
    """One release and what became of it."""

    id: str
    """SHA-256 of its inputs."""
    sequence: int
    """Number of the entry that spent."""
    time: datetime
    """When it spent, UTC."""
    exposures: Mapping[str, Exposure]
    """What each patient was charged, by pseudonym."""
    bundles: tuple[str, ...]
    """Digests of the bundles that were signed; empty where the run never came back: what was
    spent stays spent."""


@dataclass(frozen=True)
class LedgerState:
    """A ledger that holds: every signature, the chain and the head."""

    mark: Mark
    """Its last entry. Keep it elsewhere, and give it as ``at_least`` next time."""
    releases: tuple[Release, ...]
    """In the order in which they spent."""
    notes: tuple[str, ...] = ()
    """What was mended after a crash."""

    def release(self, release: str) -> Release | None:
        """The release of that id."""
        return next((found for found in self.releases if found.id == release), None)

    def totals(self, until: int | None = None) -> dict[str, Total]:
        """What each patient has spent, by pseudonym.

        Args:
            until: count only entries up to this number.
        """
        paid: dict[str, list[Exposure]] = {}
        for release in self.releases:
            if until is None or release.sequence <= until:
                for name, exposure in release.exposures.items():
                    paid.setdefault(name, []).append(exposure)
        return {name: Total.of(exposures) for name, exposures in paid.items()}


def tell(entries: Iterable[Entry], mark: Mark, notes: tuple[str, ...]) -> LedgerState:
    """The state after ``entries``."""
    spends: dict[str, Entry] = {}
    bundles: dict[str, list[str]] = {}
    for entry in entries:
        if entry.kind == "spend":
            spends.setdefault(entry.release, entry)
        elif entry.bundle is not None:
            bundles.setdefault(entry.release, []).append(entry.bundle)
    releases = tuple(
        Release(name, e.sequence, e.time, e.exposures, tuple(bundles.get(name, ())))
        for name, e in spends.items()
    )
    return LedgerState(mark, releases, notes)
