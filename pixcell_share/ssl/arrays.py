"""Tiles of plain arrays: the form in which the hub keeps a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError

if TYPE_CHECKING:
    from pixcell_share.ssl.sources import SourceSettings

PATTERN = "images-*.npy"


class ArraySource:
    """Tiles of ``images-*.npy``, uint8 (N, H, W, 3), mapped: memory does not grow with them.

    Args:
        settings: of the source.
        files: the arrays, in order.

    Raises:
        DataError: a file is damaged, or holds something else.
    """

    def __init__(self, settings: SourceSettings, files: Sequence[Path]) -> None:
        self.settings, self.files = settings, files
        self._arrays = [_mapped(path) for path in files]
        self._ends = np.cumsum([len(array) for array in self._arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, row: int) -> NDArray[np.uint8]:
        """The tile (H, W, 3)."""
        number, inside = self._find(row)
        return np.array(self._arrays[number][inside])

    def where(self, row: int) -> str:
        """File and row."""
        number, inside = self._find(row)
        return f"{self.files[number]}, row {inside}"

    def _find(self, row: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, row - (int(self._ends[number - 1]) if number else 0)


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "restore it from a backup") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}", "name arrays of uint8 (N, H, W, 3)"
        )
    return array
