"""Is a synthetic tile a part of a real one, enlarged?

A part whose side is at least three quarters of the tile's holds the central half of the tile,
wherever it was cut. So the middle 8 x 8 of each stored 16 x 16 fingerprint is searched in the
synthetic tile: that is shrunk to the size that it would have inside a fingerprint, for each of
`SIDES`, and every window of it that can be the middle is compared with all real tiles, exactly,
under the eight flips and rotations. The best few are then compared over the whole part, first in
fingerprints, then at full detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy._store import RowStore
from pixcell_share.privacy.correlate import shifted_correlation
from pixcell_share.privacy.fingerprints import (
    COARSE,
    COARSE_PX,
    DETAIL,
    Images,
    Scale,
    structure,
    transform,
)

Floats = NDArray[np.float32]

SIDES = (14, 12)
"""Sides of parts that are tried, in sixteenths of a real tile's. They find parts of 0.70 to 0.95
(benchmarks/near_copies.py): a pixel of a fingerprint is as wide as a nucleus, and half a pixel more
or less still correlates."""
_MIDDLE = COARSE_PX // 2
_MARGIN = COARSE_PX // 4
_FADE = 0.1
"""Norm of the middle of a fingerprint below which it counts as featureless. The norm of a whole
fingerprint is 1, that of its middle half of it where structure is spread evenly."""
_DECIMALS = 5
"""Scores are rounded here: their last bits depend on the size of a block."""
_STEP = 2
"""Full detail: sides of parts are tried in steps of so many 64ths of the tile's side."""


class Place(NamedTuple):
    """A part of a real tile, and how the synthetic one lies on it."""

    side: int
    """In pixels of a fingerprint."""
    turn: int
    """Flip or rotation of the synthetic tile: position in `TRANSFORMS`."""
    top: int
    """Where the middle of the real tile begins in the part, in the same pixels."""
    left: int


def middles(fingerprints: Floats) -> Floats:
    """The central halves (B, 64) of fingerprints (B, 256), without mean and at norm 1."""
    square = fingerprints.reshape(-1, COARSE_PX, COARSE_PX)
    inner = slice(_MARGIN, _MARGIN + _MIDDLE)
    return _standard(square[:, inner, inner].reshape(len(square), -1), _FADE)


class Parts:
    """What a synthetic tile would be as a part of a real one: all places where it could lie.

    Args:
        image: (H, W, 3).
    """

    def __init__(self, image: Images) -> None:
        self._image = image
        self._at_detail: dict[int, Floats] = {}
        self._pictures: dict[tuple[int, int], Floats] = {}
        for side in SIDES:
            scale = Scale(side=side, layout=COARSE.layout, floor=COARSE.floor)
            small = structure(image[None], scale)[0]
            for turn in range(8):
                self._pictures[side, turn] = transform(small, turn).astype(np.float32)
        self._places = list(self._all_places())
        windows = np.stack([self._window(place) for place in self._places])
        self._windows = _standard(windows, COARSE.floor * _MIDDLE)

    def candidates(
        self, real: RowStore, count: int, passed_over: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """The ``count`` real tiles whose middles (`middles`) are found best."""
        scores = np.concatenate([(self._windows @ block.T).max(axis=0) for block in real.blocks()])
        scores = np.round(scores, _DECIMALS)
        if passed_over is not None:
            scores[passed_over] = -np.inf
        least = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
        among = np.flatnonzero((scores >= least) & (scores > -np.inf))
        best = among[np.lexsort((among, -scores[among]))]
        return [int(index) for index in best[:count]]

    def place(self, fingerprint: Floats) -> tuple[float, Place]:
        """Correlation of the whole part with a real tile's fingerprint (256,), and where."""
        found = self._windows @ middles(fingerprint[None])[0]
        place = self._places[int(found.argmax())]
        top, left = _MARGIN - place.top, _MARGIN - place.left
        square = fingerprint.reshape(COARSE_PX, COARSE_PX)
        real = square[top : top + place.side, left : left + place.side]
        part = self._pictures[place.side, place.turn]
        share = place.side / COARSE_PX
        one = _standard(part.reshape(1, -1), COARSE.floor * place.side)
        other = _standard(real.reshape(1, -1), _FADE * share)
        return float(one[0] @ other[0]), place

    def detail(self, real: Floats, place: Place) -> tuple[float, float]:
        """Best correlation with a real tile at `DETAIL` (64, 64), and the part's side as a share.

        All positions are tried, and sides about that of ``place``; its turn is kept.
        """
        middle = DETAIL.side * place.side // COARSE_PX
        found = []
        for side in range(middle - 2 * _STEP, middle + 2 * _STEP + 1, _STEP):
            turned = transform(self._small(side), place.turn).astype(np.float32)
            found.append((shifted_correlation(turned, real, 0), side / DETAIL.side))
        return max(found)

    def _small(self, side: int) -> Floats:
        """The tile at ``side`` pixels: the same for each real one."""
        if side not in self._at_detail:
            scale = Scale(side=side, layout=DETAIL.layout, floor=DETAIL.floor)
            self._at_detail[side] = structure(self._image[None], scale)[0]
        return self._at_detail[side]

    def _all_places(self) -> Iterator[Place]:
        for side in SIDES:
            first = max(0, _MARGIN - (COARSE_PX - side))
            span = range(first, min(_MARGIN, side - _MIDDLE) + 1)
            for turn in range(8):
                yield from (Place(side, turn, top, left) for top in span for left in span)

    def _window(self, place: Place) -> Floats:
        picture = self._pictures[place.side, place.turn]
        rows = slice(place.top, place.top + _MIDDLE)
        return picture[rows, place.left : place.left + _MIDDLE].reshape(-1)


def _standard(rows: Floats, least: float) -> Floats:
    """Rows (B, F) without mean and at norm 1, less where their norm is below ``least``."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), least)
    standard: Floats = (centred / norms).astype(np.float32, copy=False)
    return standard
