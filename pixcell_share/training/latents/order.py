"""The order of training: shards are shuffled, then rows within groups of neighbouring shards.

A pure function of seed and position. Nothing is remembered from one position to the next, so a
stopped run goes on anywhere, and any number of ranks sees the same data. Rows close in the order
lie in few shards, so that the system reads ahead and keeps in memory what is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents.info import Split
from pixcell_share.training.latents.store import LatentStore

_SHARDS, _ROWS = 100, 101
"""Highest word of Philox's counter: streams that no sample of `training.batches` draws from."""


@dataclass(frozen=True)
class Source:
    """A store, and how often an epoch goes through it."""

    store: LatentStore
    repeat: int = 1


@dataclass(frozen=True)
class Address:
    """One row of one source."""

    source: int
    row: int
    """In the split of the source's store."""


@dataclass(frozen=True)
class _Unit:
    """One pass through one shard."""

    source: int
    first: int
    """The shard's first row in its split."""
    rows: int


@dataclass(frozen=True)
class _Epoch:
    """The shards of an epoch in their order, cut into groups."""

    units: tuple[_Unit, ...]
    starts: NDArray[np.int64]
    """(units + 1,) position of each unit's first row in the epoch, were rows not shuffled."""
    groups: NDArray[np.int64]
    """(groups + 1,) first unit of each group, and the number of units."""


class ShuffledOrder:
    """Which row stands at which position, epoch after epoch.

    Args:
        sources: the stores.
        split: ``train`` or ``holdout``.
        seed: another seed gives another order.
        buffer: rows that are shuffled among each other, at least; more mix better and touch more
            shards at a time.

    Raises:
        SettingsError: there is no row, or a number is out of range.
    """

    def __init__(
        self, sources: Sequence[Source], *, split: Split = "train", seed: int, buffer: int
    ) -> None:
        self.split = split
        self.seed = seed
        self._buffer = buffer
        if buffer < 1 or not 0 <= seed < 2**63 or any(source.repeat < 1 for source in sources):
            raise SettingsError(
                "the shuffling buffer, the repeats and the seed have to be positive",
                "use a buffer of 1 or more, repeats of 1 or more, and a seed from 0 to 2**63 - 1",
            )
        self._units = tuple(_units(sources, split))
        self._length = sum(unit.rows for unit in self._units)
        if not self._length:
            names = ", ".join(str(source.store.folder) for source in sources)
            raise SettingsError(
                f"there is no {split} region in {names or 'no store'}",
                "name stores with regions of this split",
            )
        # Neighbouring positions share an epoch and a group; a boundary needs two of each.
        self._epoch = lru_cache(maxsize=2)(self._lay_out)
        self._permutation = lru_cache(maxsize=3)(self._permute)

    def __len__(self) -> int:
        return self._length

    def locate(self, position: int) -> Address:
        """The row at ``position`` from 0 on; position ``len`` begins the second epoch."""
        if position < 0:
            raise IndexError(f"position {position} is negative")
        number, offset = divmod(position, self._length)
        epoch = self._epoch(number)
        unit = int(np.searchsorted(epoch.starts, offset, side="right")) - 1
        group = int(np.searchsorted(epoch.groups, unit, side="right")) - 1
        start = int(epoch.starts[epoch.groups[group]])
        shuffled = start + int(self._permutation(number, group)[offset - start])
        place = int(np.searchsorted(epoch.starts, shuffled, side="right")) - 1
        chosen = epoch.units[place]
        return Address(chosen.source, chosen.first + shuffled - int(epoch.starts[place]))

    def _lay_out(self, number: int) -> _Epoch:
        order = self._generator(number, 0, _SHARDS).permutation(len(self._units))
        units = tuple(self._units[index] for index in order)
        starts = np.cumsum([0, *(unit.rows for unit in units)])
        return _Epoch(units, starts, _group(starts, self._buffer))

    def _permute(self, number: int, group: int) -> NDArray[np.int64]:
        epoch = self._epoch(number)
        first, last = epoch.starts[epoch.groups[group]], epoch.starts[epoch.groups[group + 1]]
        return self._generator(number, group, _ROWS).permutation(int(last - first))

    def _generator(self, epoch: int, group: int, purpose: int) -> np.random.Generator:
        key = np.array([self.seed, epoch], dtype=np.uint64)
        counter = np.array([0, 0, group, purpose], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _units(sources: Sequence[Source], split: Split) -> list[_Unit]:
    units = []
    for number, source in enumerate(sources):
        first = 0
        for rows in source.store.shard_rows(split):
            units += [_Unit(number, first, rows)] * source.repeat
            first += rows
    return units


def _group(starts: NDArray[np.int64], buffer: int) -> NDArray[np.int64]:
    """Cut units into consecutive groups of ``buffer`` rows or more; the last takes the rest."""
    edges = [0]
    for unit in range(1, len(starts)):
        enough = starts[unit] - starts[edges[-1]] >= buffer
        if enough and starts[-1] - starts[unit] >= buffer:
            edges.append(unit)
    return np.array([*edges, len(starts) - 1])
