"""How the samples of a step are split over ranks and micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError


@dataclass(frozen=True)
class Division:
    """How a step's positions are split."""

    global_batch: int
    """Samples of a step."""
    world: int
    """Ranks."""
    micro_batch: int
    """Samples that a rank computes at once."""

    @property
    def accumulation(self) -> int:
        """Micro-batches of a rank and step."""
        return self.global_batch // (self.world * self.micro_batch)

    def positions(self, step: int, rank: int, part: int) -> NDArray[np.int64]:
        """The positions of micro-batch ``part`` of ``rank`` in ``step`` (counted from 0)."""
        of_rank = step * self.global_batch + rank * (self.global_batch // self.world)
        first = of_rank + part * self.micro_batch
        return np.arange(first, first + self.micro_batch, dtype=np.int64)


def divide(global_batch: int, world: int, micro_batch: int, *, exact: bool) -> Division:
    """Split a global batch.

    Args:
        global_batch: samples of a step.
        world: ranks.
        micro_batch: samples that fit into a device's memory at once.
        exact: refuse a micro-batch that does not divide a rank's share; else take the largest
            smaller one that does.

    Raises:
        SettingsError: it does not divide; names numbers that do.
    """
    if global_batch % world or global_batch < world:
        below = global_batch // world * world
        nearest = " or ".join(str(n) for n in (below, below + world) if n)
        raise SettingsError(
            f"a global batch of {global_batch} cannot be split over {world} ranks",
            f"use --global-batch {nearest}, or a number of ranks that divides {global_batch}",
        )
    share = global_batch // world
    fitting = [n for n in range(1, share + 1) if share % n == 0 and n <= micro_batch]
    if exact and micro_batch not in fitting:
        above = [n for n in range(micro_batch, share + 1) if share % n == 0][:1]
        numbers = " or ".join(map(str, [*fitting[-1:], *above]))
        raise SettingsError(
            f"a micro-batch of {micro_batch} does not divide the {share} samples a step of "
            "each rank",
            f"use --micro-batch {numbers}",
        )
    return Division(global_batch, world, fitting[-1])
