"""Which rows a store will have, in which order: decided before any of them is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pixcell_share.training.latents.entries import Entry
from pixcell_share.training.latents.info import Split
from pixcell_share.training.latents.journal import Journal
from pixcell_share.training.latents.shards import IndexRow
from pixcell_share.training.latents.split import Division


class _Extent(Protocol):
    """What a plan needs of the settings."""

    @property
    def limit(self) -> int | None: ...
    @property
    def turns(self) -> int: ...


@dataclass(frozen=True)
class Want:
    """One row to be made."""

    split: Split
    region: int
    """Number of the region in its entry."""
    turn: int
    index: IndexRow


class Plan:
    """The rows of a store: entry by entry, region by region, turn by turn.

    Each split is filled in this order, so the rows that whole shards hold already are the first
    of their split, and a slide of which nothing is missing is not opened again.
    """

    def __init__(
        self, entries: Sequence[Entry], journal: Journal, division: Division, extent: _Extent
    ) -> None:
        self._entries = entries
        self._journal = journal
        self._division = division
        self._extent = extent

    @property
    def total(self) -> int:
        """Rows in all."""
        usable = sum(self._journal[e].usable for e in self._entries if e in self._journal)
        limit = self._extent.limit
        return self._extent.turns * (usable if limit is None else min(limit, usable))

    def wanted(self, done: dict[Split, int]) -> Iterator[tuple[Entry, list[Want]]]:
        """The rows that are still to be made, entry by entry.

        Args:
            done: rows of each split that lie in whole shards.
        """
        passed: Counter[Split] = Counter()
        left = self._extent.limit
        for entry in self._entries:
            if entry not in self._journal or left == 0:
                continue
            regions = self._regions(entry)[:left]
            left = None if left is None else left - len(regions)
            rows = []
            for want in self._rows(entry, regions):
                passed[want.split] += 1
                if passed[want.split] > done[want.split]:
                    rows.append(want)
            if rows:
                yield entry, rows

    def _regions(self, entry: Entry) -> list[int]:
        known = self._journal[entry]
        return [region for region in range(len(known.corners)) if region not in known.lost]

    def _rows(self, entry: Entry, regions: list[int]) -> Iterator[Want]:
        corners = self._journal[entry].corners
        for region in regions:
            corner = int(corners[region, 0]), int(corners[region, 1])
            split = self._division.side(entry, corner)
            for turn in range(self._extent.turns):
                yield Want(split, region, turn, entry.row(corner, turn))
