"""Draw the next batches on threads, so that a GPU does not wait for crops."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from pixcell_share.nano.batches import Sampler
from pixcell_share.nano.tiles import TILE_PX, Images

_AHEAD = 8
"""Batches drawn ahead, each on a thread: copying crops takes no Python lock."""


class DrawnAhead:
    """A sampler whose batches were drawn while the device computed.

    Every batch has a generator of its own, seeded by the caller's: the batches depend on the
    caller's generator alone, not on the threads.

    Args:
        sampler: draws the batches.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="crops")
        self._drawn: deque[Future[Images]] = deque()

    def draw(self, count: int, rng: np.random.Generator, crop_px: int = TILE_PX) -> Images:
        """The next batch (count, crop_px, crop_px, 3); all calls ask for the same sizes."""
        while len(self._drawn) <= _AHEAD:
            own = np.random.default_rng(rng.integers(2**63))
            self._drawn.append(self._pool.submit(self._sampler.draw, count, own, crop_px))
        return self._drawn.popleft().result()
