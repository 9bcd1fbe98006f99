"""Embeddings on disk, in the HDF5 layout of TRIDENT: ``features`` beside their ``coords``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError
from pixcell_share.slides._hdf5 import (
    add_rows,
    create_hdf5,
    file_error,
    get_dataset,
    open_hdf5,
    read_rows,
)
from pixcell_share.slides.coords import add_coords, parse_coords
from pixcell_share.slides.grid_format import TileGrid
from pixcell_share.slides.reader import Slide


class FeatureFile:
    """The embeddings of one slide, read from disk as they are asked for.

    Close it, or use it in a ``with`` block.

    Attributes:
        grid: the tiles, in the order of the embeddings.
        encoder: the name of the model that made them, empty if the file does not say.
        shape: (N, D), or (N, T, D) where a tile has T tokens.
    """

    def __init__(
        self, path: Path, dataset: h5py.Dataset, grid: TileGrid, encoder: str, batched: bool
    ) -> None:
        self.grid = grid
        self.encoder = encoder
        self.shape: tuple[int, ...] = dataset.shape[1:] if batched else dataset.shape
        self._path = path
        self._dataset = dataset
        self._batched = batched

    @property
    def coords(self) -> NDArray[np.int64]:
        """(N, 2) top-left corners (x, y) on level 0."""
        return self.grid.coords

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.file.close()

    def __len__(self) -> int:
        return len(self.grid)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Embeddings of some tiles, float32 (n, D) or (n, T, D).

        Raises:
            SlideError: the file is damaged there, or a number is not finite.
        """
        block = read_rows(self._dataset, self._path, (0, rows) if self._batched else rows)
        block = block.astype(np.float32, copy=False)
        if not np.isfinite(block).all():
            raise file_error(self._path, "holds embeddings that are not finite numbers")
        return block


def write_features(
    path: Path, grid: TileGrid, blocks: Iterable[NDArray[np.float32]], encoder: str
) -> None:
    """Write embeddings in the order of ``grid.coords``; equal input gives equal bytes.

    Args:
        path: the file.
        grid: the tiles that were embedded.
        blocks: consecutive blocks, (n, D) or (n, T, D), N rows together; one is held at a time.
        encoder: the name of the model.

    Raises:
        SettingsError: the blocks hold more or fewer rows than the grid has tiles.
        StorageError: the disk is full, or the folder cannot be written.
    """
    with create_hdf5(path) as (file, sink):
        add_coords(file, grid)
        written = 0
        for block in blocks:
            if "features" not in file:
                shape = (len(grid), *block.shape[1:])
                about = {"name": grid.slide_id, "savetodir": ".", "encoder": encoder}
                dataset = add_rows(file, "features", shape, np.float32, about)
            if written + len(block) <= len(grid):
                dataset[written : written + len(block)] = block
            written += len(block)
            sink.raise_error()
        if written != len(grid):
            raise SettingsError(
                f"{path.name}: {written} embeddings for {len(grid)} tiles",
                "embed every tile of the grid once, in its order",
            )


def read_features(path: Path, slide: Slide | None = None) -> FeatureFile:
    """Open features, ours or TRIDENT's.

    Args:
        path: the file; a leading batch dimension of 1, as some versions wrote, is passed over.
        slide: see `read_coords`.

    Raises:
        SlideError: truncated, of a wrong type, or not one embedding for each tile.
    """
    file = open_hdf5(path)
    try:
        grid = parse_coords(file, path, slide)
        dataset = get_dataset(file, path, "features")
        batched = _check_features(path, dataset, len(grid))
    except BaseException:
        file.close()
        raise
    encoder = dataset.attrs.get("encoder", "")
    name = encoder.decode(errors="replace") if isinstance(encoder, bytes) else str(encoder)
    return FeatureFile(path, dataset, grid, name, batched)


def _check_features(path: Path, dataset: h5py.Dataset, tiles: int) -> bool:
    """Whether the dataset has a batch dimension in front; raises if it does not fit the tiles."""
    shape = dataset.shape
    batched = len(shape) in (3, 4) and shape[:2] == (1, tiles)
    rows = shape[1:] if batched else shape
    if len(rows) not in (2, 3) or dataset.dtype.kind != "f" or 0 in rows:
        raise file_error(
            path, f"has features of {dataset.dtype} {shape}, not floats of shape (N, D)"
        )
    if rows[0] != tiles:
        raise file_error(path, f"has {rows[0]} embeddings for {tiles} tiles")
    return batched
