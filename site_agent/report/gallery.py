"""Pictures for the private pages, fetched one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pixcell_share.slides import read_coords
from site_agent.evidence import Gathered
from site_agent.report.audit_page import ClosePair
from site_agent.report.page import Pair
from site_agent.run_folder import RunFolder
from site_agent.steps.checking import CheckedBlock, final_image
from site_agent.steps.generation import Block

_PAIRS = 24
_CLOSEST = 8
_DROPPED = 4
_REFUSED = 24
_SHOWN_MEMBERS = 5
_SCORES = {"pixel": "pixel_ncc", "embedding": "embedding_similarity"}


class Gallery:
    """Real and synthetic tiles of a run."""

    def __init__(self, run: RunFolder, gathered: Gathered) -> None:
        self._run = run
        self._gathered = gathered
        sizes = [len(check.accepted) for _, check in gathered.checked]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def scores(self, name: str) -> NDArray[np.float64]:
        """One score of every draw, in the order of the run."""
        values = [getattr(check, name) for _, check in self._gathered.checked]
        return np.concatenate(values) if values else np.empty(0)

    def pairs(self) -> Iterator[Pair]:
        """Conditions spread evenly over the run: the real tiles behind each, and its draws."""
        firsts = [
            (number, position)
            for number, (block, _) in enumerate(self._gathered.checked)
            for position in np.flatnonzero(block.draws == 0).tolist()
        ]
        for place in np.unique(np.linspace(0, len(firsts) - 1, _PAIRS).astype(int)):
            if firsts:
                yield self._pair(*firsts[int(place)])

    def _pair(self, number: int, position: int) -> Pair:
        block, check = self._gathered.checked[number]
        mine = np.flatnonzero((block.conditions == block.conditions[position]) & check.accepted)
        start = self._gathered.real.index(block.name, 0) if block.source.slide else 0
        behind = block.source.members(block.conditions[position : position + 1], start)
        tiles = [] if behind is None else behind[0].tolist()[:_SHOWN_MEMBERS]
        return Pair(
            caption=self._caption(block, tiles),
            real=tuple(self._gathered.real.image(tile) for tile in tiles),
            synthetic=tuple(self._image(block, check, int(at)) for at in mine[:_SHOWN_MEMBERS]),
        )

    def _caption(self, block: Block, tiles: Sequence[int]) -> str:
        if not tiles:
            return f"{block.source.label}: noised statistics of the class"
        places = [self._place(tile) for tile in tiles]
        return "; ".join(f"{slide}, x {x}, y {y}" for slide, x, y in places)

    def closest(self, kind: str) -> Iterable[ClosePair]:
        """The draws that came closest to a real tile, then some that were dropped.

        Args:
            kind: ``pixel`` or ``embedding``.
        """
        ranked = np.argsort(-self.scores(_SCORES[kind]), kind="stable")
        kept = self.scores("accepted")[ranked] > 0
        shown = np.concatenate([ranked[kept][:_CLOSEST], ranked[~kept][:_DROPPED]])
        return _Again(self, kind, shown)

    def refused(self, kind: str, limit: float) -> Iterable[ClosePair]:
        """Draws meant for release that reach ``limit``, the closest first."""
        scores, accepted = self.scores(_SCORES[kind]), self.scores("accepted")
        found = np.flatnonzero((scores >= limit) & (accepted > 0))
        return _Again(self, kind, found[np.argsort(-scores[found], kind="stable")][:_REFUSED])

    def pair_of(self, kind: str, number: int) -> ClosePair:
        """Draw ``number`` beside the real tile that it comes closest to."""
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        block, check = self._gathered.checked[place]
        position = number - int(self._starts[place])
        index = int(getattr(check, f"{kind}_index")[position])
        slide_id, x, y = self._place(index)
        return ClosePair(
            synthetic=self._image(block, check, position),
            real=self._gathered.real.image(index),
            slide_id=slide_id,
            x=x,
            y=y,
            score=float(getattr(check, _SCORES[kind])[position]),
            fate=_fate(check, position),
        )

    def _image(self, block: Block, check: CheckedBlock, position: int) -> NDArray[np.uint8]:
        return final_image(self._run, self._gathered.inventory, block, check, position)

    def _place(self, index: int) -> tuple[str, int, int]:
        record, position = self._gathered.real.place(index)
        x, y = read_coords(self._run.coords(record.slide_id)).coords[position]
        return record.slide_id, int(x), int(y)


class _Again:
    """Pairs that are fetched each time they are gone through."""

    def __init__(self, gallery: Gallery, kind: str, numbers: NDArray[np.int64]) -> None:
        self._gallery = gallery
        self._kind = kind
        self._numbers = numbers

    def __iter__(self) -> Iterator[ClosePair]:
        return (self._gallery.pair_of(self._kind, number) for number in self._numbers.tolist())


def _fate(check: CheckedBlock, position: int) -> str:
    if not check.accepted[position]:
        return "dropped"
    return "in the cohort, drawn again" if check.redraws[position] else "in the cohort"
