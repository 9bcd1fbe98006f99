"""Which side of the holdout something is on, from its name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents.entries import Entry
from pixcell_share.training.latents.info import SPLITS, Split

HoldoutBy = Literal["slide", "patch"]
_PURPOSE = "pixcell-share latents holdout, version 1"


@dataclass(frozen=True)
class Holdout:
    """How regions are divided into ``train`` and ``holdout``."""

    share: float = 0.1
    """Part that is held out, about: names are drawn, not counted."""
    by: HoldoutBy = "slide"
    """``slide`` holds out whole cases (where a table names them) or slides, so that no patient is
    on both sides; ``patch`` draws each region by itself, as the paper did."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.by not in ("slide", "patch"):
            raise SettingsError(
                f"--holdout {self.share:g} --holdout-by {self.by} is no division",
                "give a share from 0 up to below 1, by slide or by patch",
            )

    def side(self, name: str) -> Split:
        """The same side for the same name, whatever else there is."""
        return "holdout" if hashed(_PURPOSE, name) < self.share else "train"


class Division:
    """The side of every region of some entries.

    Args:
        entries: all of them.
        holdout: how they are divided; a side that an entry's table row gives wins, and counts for
            the whole case.

    Raises:
        SettingsError: the table puts a case on both sides.
    """

    def __init__(self, entries: Iterable[Entry], holdout: Holdout) -> None:
        self._holdout = holdout
        self._given: dict[str, Split] = {}
        if holdout.by == "slide":
            for entry in entries:
                self._take(entry)

    def side(self, entry: Entry, region: tuple[int, int]) -> Split:
        """The side of the region of ``entry`` with the corner ``region``."""
        if entry.split is not None:
            return entry.split
        if self._holdout.by == "patch":
            return self._holdout.side(f"{entry.name}\0{region[0]}\0{region[1]}")
        patient = _patient(entry)
        return self._given.get(patient) or self._holdout.side(patient)

    def _take(self, entry: Entry) -> None:
        if entry.split is None:
            return
        patient = _patient(entry)
        if self._given.setdefault(patient, entry.split) != entry.split:
            raise SettingsError(
                f"the table puts {patient} into both {' and '.join(SPLITS)}",
                "give one split to all rows of a case, or divide with --holdout-by patch",
            )


def hashed(purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on ``name`` alone."""
    digest = hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _patient(entry: Entry) -> str:
    return entry.case or entry.slide
