"""Read a store: memory-mapped shards behind row numbers, with the bad ones named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError
from pixcell_share.training.latents.info import SPLITS, StoreFile, StoreInfo, read_store_file
from pixcell_share.training.latents.shards import (
    COLUMNS,
    EMBEDDINGS,
    INDEX,
    LATENTS,
    IndexRow,
    Rows,
    found_numbers,
    open_rows,
    read_index,
    shard_fault,
    stem,
)

OnBad = Literal["refuse", "skip"]
_EXPONENT = np.uint16(0x7C00)
"""The exponent bits of a float16: all of them are set in NaN and infinity alone (IEEE 754)."""


@dataclass(frozen=True)
class Regions:
    """Some rows of a store."""

    latents: Rows
    """float16 (n, C, S, S): means of the VAE's posterior, unscaled."""
    embeddings: Rows
    """float16 (n, T, D): row by row of the grid."""

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """(n,): whether every number of a row is finite; computed when first asked for."""
        return finite_rows(self.latents) & finite_rows(self.embeddings)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store."""

    store: Path
    where: str
    """The shard or file."""
    what: str
    """In one clause."""

    def __str__(self) -> str:
        return f"{self.store}, {self.where}: {self.what}"


class LatentStore:
    """The usable shards of a store; open it with `open`.

    Attributes:
        folder: of the store.
        info: what all rows have in common.
        faults: what was left out, and why.
    """

    def __init__(self, folder: Path, stored: StoreFile, faults: tuple[Fault, ...]) -> None:
        self.folder = folder
        self.info: StoreInfo = stored.info
        self.faults = faults
        bad = {fault.where for fault in faults}
        self._shards: dict[str, list[_OpenShard]] = {
            split: _open_shards(folder, split, bad) for split in SPLITS
        }
        self._starts: dict[str, NDArray[np.int64]] = {
            split: np.cumsum([0, *(len(shard.latents) for shard in shards)])
            for split, shards in self._shards.items()
        }
        self._index = lru_cache(maxsize=4)(partial(read_shard_index, folder))

    @classmethod
    def open(
        cls, folder: Path | str, *, on_bad: OnBad = "refuse", say: Callable[[str], None] = print
    ) -> LatentStore:
        """Open a store after looking at every shard's files.

        Headers, sizes and index are checked, and the shards against each other and against
        ``store.json``. Single bad numbers show when rows are read (`Regions.finite`), or in
        ``pixcell-train latents check``.

        Args:
            folder: of the store.
            on_bad: ``refuse`` a store with a fault, or ``skip`` its bad shards.
            say: is told of each fault when they are skipped.

        Raises:
            SettingsError: there is no store.
            DataError: ``store.json`` is damaged, or something else is and ``on_bad`` is
                ``refuse``; names every fault.
        """
        folder = Path(folder)
        stored = read_store_file(folder)
        faults = tuple(find_faults(folder, stored))
        if faults and on_bad == "refuse":
            raise DataError(
                "; ".join(map(str, faults)),
                "run `pixcell-train latents` again, or go on without these with on-bad-data skip",
            )
        for fault in faults:
            say(f"left out: {fault}")
        return cls(folder, stored, faults)

    def shard_rows(self, split: str) -> list[int]:
        """Rows of each usable shard, in order."""
        return [len(shard.latents) for shard in self._shards[split]]

    def count(self, split: str) -> int:
        """Rows of ``split``."""
        return int(self._starts[split][-1])

    def read(self, split: str, rows: NDArray[np.int64]) -> Regions:
        """Rows by their number in ``split``, in the order asked for.

        Raises:
            IndexError: there is no such row.
        """
        info, count = self.info, len(rows)
        latents = np.empty((count, *info.latent_shape), np.float16)
        embeddings = np.empty((count, *info.embedding_shape), np.float16)
        for at, row in enumerate(rows):
            shard, inside = self._locate(split, int(row))
            latents[at] = shard.latents[inside]
            embeddings[at] = shard.embeddings[inside]
        return Regions(latents, embeddings)

    def read_crops(
        self, split: str, rows: NDArray[np.int64], places: NDArray[np.int64], tokens: int
    ) -> Regions:
        """Crops of rows, without reading what lies outside them.

        Args:
            split: ``train`` or ``holdout``.
            rows: (n,) by their number in ``split``.
            places: (n, 2) row and column of a crop's first tile in the region's grid.
            tokens: tiles along one side of a crop.

        Returns:
            latents (n, C, s, s) and embeddings (n, tokens², D).
        """
        info, count = self.info, len(rows)
        cell, dim = info.latent_side // info.grid, info.embedding_dim
        side = tokens * cell
        latents = np.empty((count, info.latent_channels, side, side), np.float16)
        embeddings = np.empty((count, tokens, tokens, dim), np.float16)
        for at, (row, (down, right)) in enumerate(zip(rows, places, strict=True)):
            shard, inside = self._locate(split, int(row))
            top, left = down * cell, right * cell
            latents[at] = shard.latents[inside, :, top : top + side, left : left + side]
            grid = shard.embeddings[inside].reshape(info.grid, info.grid, dim)
            embeddings[at] = grid[down : down + tokens, right : right + tokens]
        return Regions(latents, embeddings.reshape(count, tokens**2, dim))

    def describe(self, split: str, row: int) -> dict[str, str]:
        """Where a row comes from: shard, row in the shard, slide, case, organ, source, x, y, ..."""
        shard, inside = self._locate(split, row)
        entry = self._index(shard.name)[inside]
        values = dict(zip(COLUMNS, astuple(entry), strict=True))
        return {"shard": shard.name, "row": str(inside), **values}

    def index(self, split: str) -> list[IndexRow]:
        """Where every row of ``split`` comes from."""
        names = [shard.name for shard in self._shards[split]]
        return [row for name in names for row in read_shard_index(self.folder, name)]

    def _locate(self, split: str, row: int) -> tuple[_OpenShard, int]:
        starts = self._starts[split]
        if not 0 <= row < starts[-1]:
            raise IndexError(f"{self.folder} has no row {row} in {split}, only {starts[-1]}")
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return self._shards[split][number], row - int(starts[number])


@dataclass(frozen=True)
class _OpenShard:
    name: str
    latents: Rows
    embeddings: Rows


def _open_shards(folder: Path, split: str, bad: set[str]) -> list[_OpenShard]:
    names = [stem(split, number) for number in sorted(found_numbers(folder, split))]
    return [_open_shard(folder, name) for name in names if name not in bad]


def _open_shard(folder: Path, name: str) -> _OpenShard:
    latents, embeddings = (folder / f"{name}.{part}" for part in (LATENTS, EMBEDDINGS))
    return _OpenShard(name, open_rows(latents), open_rows(embeddings))


def find_faults(folder: Path, stored: StoreFile) -> list[Fault]:
    """All that is wrong with a store's files, apart from the numbers in them."""
    faults = []
    if not stored.finished:
        what = "the store is not finished: run the same `pixcell-train latents` again"
        faults.append(Fault(folder, "store.json", what))
    for split in SPLITS:
        expected = stored.shards[split] if stored.shards else []
        found = found_numbers(folder, split)
        for number in range(max(len(expected), max(found, default=-1) + 1)):
            name = stem(split, number)
            wanted = expected[number] if number < len(expected) else None
            fault = _shard_fault(folder, name, stored, number in found, wanted)
            if fault:
                faults.append(Fault(folder, name, fault))
    return faults


def _shard_fault(
    folder: Path, name: str, stored: StoreFile, found: bool, wanted: int | None
) -> str | None:
    if not found:
        return "the shard is missing: there is a gap in the numbers"
    fault = shard_fault(folder, name, stored.info)
    if fault or not stored.finished:
        return fault
    if wanted is None:
        return "the shard is not named in store.json"
    rows = len(open_rows(folder / f"{name}.{LATENTS}"))
    return None if rows == wanted else f"{rows} rows, and store.json says {wanted}"


def read_shard_index(folder: Path, name: str) -> list[IndexRow]:
    """The index of one shard.

    Raises:
        DataError: a line of it is damaged.
    """
    try:
        return read_index(folder / f"{name}.{INDEX}")
    except (OSError, ValueError) as error:
        raise DataError(str(error), "make the store again") from error


def finite_rows(rows: Rows) -> NDArray[np.bool_]:
    """(n,): whether every number of each row is finite."""
    bits = np.ascontiguousarray(rows).view(np.uint16).reshape(len(rows), -1)
    finite: NDArray[np.bool_] = ((bits & _EXPONENT) != _EXPONENT).all(axis=1)
    return finite
