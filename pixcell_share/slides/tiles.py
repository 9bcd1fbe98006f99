"""Read the tiles of a grid, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides._pyramid import LevelReader, read_square
from pixcell_share.slides.grid_format import TileGrid
from pixcell_share.slides.reader import Slide

Reader = Literal["auto", "openslide", "jpeg"]


def read_tiles(
    slide: Slide,
    grid: TileGrid,
    start: int = 0,
    stop: int | None = None,
    *,
    reader: Reader = "auto",
) -> Iterator[NDArray[np.uint8]]:
    """The tiles ``grid.coords[start:stop]`` in that order, each uint8 (tile_px, tile_px, 3).

    They are read as they are asked for; the memory held does not grow with their number.

    Args:
        slide: the open slide.
        grid: its tiles.
        start: first tile.
        stop: one past the last tile; None goes to the end.
        reader: ``jpeg`` decodes stored JPEG tiles directly, ``openslide`` is the reference, and
            ``auto`` takes the first that can read the slide. An explicit choice is never replaced.

    Raises:
        SlideUnreadableError: the slide is damaged at a tile, or ``jpeg`` cannot read this slide.
    """
    stored = _stored_tiles(slide, reader)
    coords = grid.coords[start:stop].tolist()
    size, tile_px = grid.tile_px_level0, grid.tile_px
    if stored is None:
        return (slide.square(x, y, size, tile_px) for x, y in coords)
    return (read_square(stored, x, y, size, tile_px) for x, y in coords)


def _stored_tiles(slide: Slide, reader: Reader) -> LevelReader | None:
    """The fast path, where it is wanted and there is one."""
    if reader == "openslide" or (reader == "auto" and slide.jpeg_tiles is None):
        return None
    if slide.jpeg_tiles is None:
        raise SlideUnreadableError(
            f"{slide.path.name} cannot be read as JPEG tiles: {slide.no_jpeg_tiles}",
            "use the reader auto or openslide",
        )
    return slide.jpeg_tiles
