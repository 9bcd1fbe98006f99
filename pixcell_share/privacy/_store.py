"""Rows of numbers, kept compactly in blocks of one size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class RowStore:
    """Grows by rows and is read by blocks; holds two bytes per number.

    Half precision moves a cosine of unit vectors by less than 1e-3 (2^-11 per factor at worst).

    Args:
        block_rows: rows per block when reading; what was added in which portions does not matter.
    """

    def __init__(self, block_rows: int) -> None:
        self._block_rows = block_rows
        self._blocks: list[NDArray[np.float16]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Floats) -> None:
        """Append rows (B, F).

        Raises:
            ValueError: another width than before.
        """
        while len(rows):
            used = self._count % self._block_rows
            if used == 0:
                self._blocks.append(np.empty((self._block_rows, rows.shape[1]), np.float16))
            portion = rows[: self._block_rows - used]
            self._blocks[-1][used : used + len(portion)] = portion
            self._count += len(portion)
            rows = rows[len(portion) :]

    def blocks(self) -> Iterator[Floats]:
        """All rows in order, as single precision, one block at a time."""
        left = self._count
        for block in self._blocks:
            yield block[:left].astype(np.float32)
            left -= len(block)

    def read(self, start: int, stop: int) -> Floats:
        """Rows (stop - start, F) in order, as single precision."""
        pieces = []
        while start < stop:
            block, used = divmod(start, self._block_rows)
            piece = self._blocks[block][used : used + stop - start]
            pieces.append(piece.astype(np.float32))
            start += len(piece)
        return np.concatenate(pieces)

    def take(self, indices: NDArray[np.int64]) -> Floats:
        """The rows (K, F) at ``indices``."""
        return np.stack(
            [self._blocks[i // self._block_rows][i % self._block_rows] for i in indices]
        ).astype(np.float32)
