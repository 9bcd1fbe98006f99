"""Batches drawn ahead on threads."""

from __future__ import annotations

import time

import numpy as np

from pixcell_share.nano.ahead import DrawnAhead
from pixcell_share.nano.tiles import Images


class SlowAtFirst:
    """Marks each batch by its generator; the first ones take the longest."""

    def __init__(self) -> None:
        self.calls = 0

    def draw(self, count: int, rng: np.random.Generator, crop_px: int = 256) -> Images:
        self.calls += 1
        time.sleep(max(0.0, 0.02 - 0.002 * self.calls))
        return rng.integers(0, 256, (count, crop_px, crop_px, 3), np.uint8)


def drawn(batches: int) -> list[Images]:
    ahead, rng = DrawnAhead(SlowAtFirst()), np.random.default_rng(5)
    return [ahead.draw(2, rng, 8) for _ in range(batches)]


def test_batches_depend_on_the_generator_alone() -> None:
    first, second = drawn(20), drawn(20)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert len({batch.tobytes() for batch in first}) == 20
