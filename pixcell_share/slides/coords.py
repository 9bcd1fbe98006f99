"""Tile coordinates on disk, in the HDF5 layout of TRIDENT.

``coords`` is int64 (N, 2), the top-left corners (x, y) on level 0, with the size of the tiles and
of the slide as its attributes. Two attributes of our own, ``level0_mpp`` and ``target_mpp``, keep
the exact resolutions; other readers pass over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pixcell_share.slides._hdf5 import (
    add_rows,
    create_hdf5,
    file_error,
    get_dataset,
    open_hdf5,
    read_rows,
)
from pixcell_share.slides.grid_format import TileGrid
from pixcell_share.slides.reader import Slide

# The µm/px that a nominal objective stands for: 10/40 = 0.25, 10/20 = 0.5.
_MPP_TIMES_MAGNIFICATION = 10.0


def write_coords(path: Path, grid: TileGrid) -> None:
    """Write ``grid`` to ``path``; equal grids give equal bytes.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with create_hdf5(path) as (file, _):
        add_coords(file, grid)


def read_coords(path: Path, slide: Slide | None = None) -> TileGrid:
    """The grid in ``path``, ours or TRIDENT's.

    Args:
        path: a coords file or a features file.
        slide: checks that the file was made for this slide, and gives the exact µm/px that
            TRIDENT does not store. Without it, 20x is taken for 0.5 µm/px.

    Raises:
        SlideError: truncated, a wrong type or attribute, or tiles that lie outside the slide.
    """
    with open_hdf5(path) as file:
        return parse_coords(file, path, slide)


def add_coords(file: h5py.File, grid: TileGrid) -> None:
    """Put ``grid`` in an open file."""
    add_rows(file, "coords", grid.coords.shape, np.int64, grid.attributes)[:] = grid.coords


def parse_coords(file: h5py.File, path: Path, slide: Slide | None) -> TileGrid:
    """The grid in an open file; see `read_coords`."""
    dataset = get_dataset(file, path, "coords")
    if dataset.ndim != 2 or dataset.shape[1] != 2 or dataset.dtype.kind not in "iu":
        raise file_error(
            path, f"has coords of {dataset.dtype} {dataset.shape}, not integers of shape (N, 2)"
        )
    attributes = _Attributes(path, dataset.attrs)
    coords = np.ascontiguousarray(read_rows(dataset, path), dtype=np.int64)
    tile_px = attributes.integer("patch_size")
    tile_px_level0 = _level0_size(attributes, tile_px)
    width, height = _slide_size(attributes, path, slide)
    _check_inside(path, coords, width, height)
    mpp, slide_mpp = _resolutions(attributes, tile_px / tile_px_level0, slide)
    return TileGrid(
        slide_id=slide.slide_id if slide else attributes.text("name", path.stem),
        coords=coords,
        tile_px=tile_px,
        tile_px_level0=tile_px_level0,
        mpp=mpp,
        slide_mpp=slide_mpp,
        width=width,
        height=height,
        overlap_px=attributes.integer("overlap", 0),
    )


class _Attributes:
    """Attributes as TRIDENT's versions wrote them: numbers, NumPy scalars, text or bytes."""

    def __init__(self, path: Path, stored: Mapping[str, Any]) -> None:
        self._path = path
        self._stored = stored

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def number(self, name: str) -> float:
        try:
            value = float(np.asarray(self._stored[name]).item())
        except KeyError:
            raise file_error(self._path, f"does not say its {name}") from None
        except (TypeError, ValueError):
            raise file_error(self._path, f"has a {name} that is no number") from None
        if not np.isfinite(value) or value < 0:
            raise file_error(self._path, f"has a {name} of {value:g}")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        if default is not None and name not in self._stored:
            return default
        value = self.number(name)
        if value != int(value) or (default is None and value == 0):
            raise file_error(self._path, f"has a {name} of {value:g}")
        return int(value)

    def text(self, name: str, default: str) -> str:
        value = self._stored.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _level0_size(attributes: _Attributes, tile_px: int) -> int:
    if "patch_size_level0" in attributes:
        return attributes.integer("patch_size_level0")
    level0 = attributes.integer("level0_magnification")
    return max(1, tile_px * level0 // attributes.integer("target_magnification"))


def _slide_size(attributes: _Attributes, path: Path, slide: Slide | None) -> tuple[int, int]:
    if slide is not None and "level0_width" not in attributes:
        return slide.width, slide.height
    size = attributes.integer("level0_width"), attributes.integer("level0_height")
    if slide is not None and size != (slide.width, slide.height):
        raise file_error(
            path,
            f"is for a slide of {size[0]} x {size[1]} px, and {slide.path.name} has "
            f"{slide.width} x {slide.height}",
        )
    return size


def _resolutions(
    attributes: _Attributes, shrinking: float, slide: Slide | None
) -> tuple[float, float]:
    """µm/px of the tiles and of level 0; ``shrinking`` is tile pixels per level-0 pixel."""
    if slide is not None:
        return slide.mpp / shrinking, slide.mpp
    if "target_mpp" in attributes and "level0_mpp" in attributes:
        return attributes.number("target_mpp"), attributes.number("level0_mpp")
    mpp = _MPP_TIMES_MAGNIFICATION / attributes.integer("target_magnification")
    return mpp, mpp * shrinking


def _check_inside(path: Path, coords: NDArray[np.int64], width: int, height: int) -> None:
    """Corners lie on the slide; the squares may hang over its right and lower edge."""
    if not len(coords):
        raise file_error(path, "holds no tile")
    outside = (coords < 0).any(axis=1) | (coords >= (width, height)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        x, y = coords[row]
        raise file_error(
            path, f"has tile {row} at ({x}, {y}), outside the slide of {width} x {height} px"
        )
