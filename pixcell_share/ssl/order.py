"""Which tile stands at a position: sources mixed by share, each shuffled epoch by epoch.

A pure function of seed and position, as `pixcell_share.training.latents.order`: nothing is
remembered, so a stopped run goes on anywhere and any number of ranks sees the same data. What is
kept are permutations of row numbers, eight bytes a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError
from pixcell_share.ssl.draws import Purpose, generator

_BLOCK = 4096
"""Positions among which the sources are shuffled; each has its exact share of them."""
_MAX_BLOCK = 2**22


@dataclass(frozen=True)
class Address:
    """One tile of one source."""

    source: int
    row: int


class MixedOrder:
    """The order of training.

    Args:
        sizes: number of tiles of each source.
        shares: of each source; None: by its number of tiles.
        seed: another seed gives another order.

    Raises:
        SettingsError: a share is not above 0, only some sources have one, or one is too small.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float | None], *, seed: int) -> None:
        self._sizes, self._seed = list(sizes), seed
        parts = _parts(sizes, shares)
        self._block = _block_length(parts)
        self._ends = [sum(parts[: number + 1], Fraction(0)) for number in range(len(parts))]
        self._slots = lru_cache(maxsize=2)(self._lay_out)
        # Two for each source: neighbouring positions can lie in two epochs.
        self._rows = lru_cache(maxsize=2 * len(parts))(self._permute)

    def locate(self, position: int) -> Address:
        """The tile at ``position``, from 0 on."""
        block, place = divmod(position, self._block)
        source, place = divmod(int(self._slots(block)[place]), self._block)
        epoch, row = divmod(self._before(block, source) + place, self._sizes[source])
        return Address(source, int(self._rows(source, epoch)[row]))

    def _lay_out(self, block: int) -> NDArray[np.int64]:
        """For each place of a block: source * block length + number of its tile within it."""
        places: list[int] = []
        for source in range(len(self._sizes)):
            count = self._before(block + 1, source) - self._before(block, source)
            places += range(source * self._block, source * self._block + count)
        draw = generator(self._seed, block, Purpose.SOURCES)
        return draw.permutation(np.array(places, dtype=np.int64))

    def _before(self, block: int, source: int) -> int:
        """Tiles of a source in all blocks before this one: whole numbers that add up exactly."""
        positions = block * self._block
        begin = self._ends[source - 1] if source else Fraction(0)
        return int(positions * self._ends[source]) - int(positions * begin)

    def _permute(self, source: int, epoch: int) -> NDArray[np.int64]:
        draw = generator(self._seed, epoch, Purpose.ORDER, part=source)
        return draw.permutation(self._sizes[source])


def _parts(sizes: Sequence[int], shares: Sequence[float | None]) -> list[Fraction]:
    """The shares as fractions of one."""
    given = [share for share in shares if share is not None]
    if given and len(given) < len(shares):
        raise SettingsError("only some sources have a share", "give every source one, or none")
    if any(not share > 0 for share in given):
        raise SettingsError("a source's share is not above 0", "leave that source out")
    weights = [Fraction(share) for share in given] or [Fraction(size) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def _block_length(parts: Sequence[Fraction]) -> int:
    """Long enough that every source has a place in each block, also when rounded down."""
    needed = int(2 / min(parts)) + 1
    if needed > _MAX_BLOCK:
        raise SettingsError(
            f"a source has only one of {int(1 / min(parts)):,} tiles",
            "give it a larger share, or leave it out",
        )
    return max(_BLOCK, needed)
