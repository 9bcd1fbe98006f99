"""Where the JPEG tiles of a slide lie in its file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides._pyramid import Level

# Vendors whose levels OpenSlide draws tile by tile, with nothing laid over or moved.
_VENDORS = frozenset({"aperio", "generic-tiff"})
# What tifffile lets through on damaged tags, and what their odd values cause here.
_PARSER_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ZeroDivisionError,
    struct.error,
)
_JPEG = 7
_RGB, _YCBCR = 2, 6


class UnsupportedLayoutError(Exception):
    """The slide is no plain pyramid of JPEG tiles; the text says why."""


@dataclass(frozen=True, eq=False)
class StoredLevel:
    """Where the tiles of one level lie in the file."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    across: int
    """Tiles in a row."""
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    """Bytes of each tile; 0 means that the scanner left it out."""
    tables: bytes
    ycbcr: bool


def find_stored_levels(
    path: Path, vendor: str, levels: tuple[Level, ...]
) -> tuple[StoredLevel, ...]:
    """The tiles of each level as OpenSlide counts them.

    Raises:
        UnsupportedLayoutError: not a plain pyramid of JPEG tiles.
    """
    if vendor not in _VENDORS:
        raise UnsupportedLayoutError(f"{vendor or 'unknown'} slides are not plain tiled TIFFs")
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [tiff.pages[index] for index in range(len(tiff.pages))]
            tiled = [page for page in pages if page.is_tiled]
            return tuple(_stored_level(tiled, i, level) for i, level in enumerate(levels))
    except _PARSER_ERRORS as error:
        raise UnsupportedLayoutError(f"tifffile cannot read it: {error}") from error


def _stored_level(pages: Sequence[Any], index: int, level: Level) -> StoredLevel:
    """The page that holds ``level``: the first tiled one of its size, as OpenSlide takes it."""
    size = (level.width, level.height)
    page = next((p for p in pages if (p.imagewidth, p.imagelength) == size), None)
    if page is None:
        raise UnsupportedLayoutError(f"level {index} is not stored as tiles of its own")
    if page.compression != _JPEG:
        stored_as = getattr(page.compression, "name", page.compression)
        raise UnsupportedLayoutError(f"level {index} is stored as {stored_as}, not JPEG")
    layout = (page.photometric in (_RGB, _YCBCR), page.samplesperpixel, page.bitspersample)
    if layout != (True, 3, 8) or page.planarconfig != 1:
        raise UnsupportedLayoutError(f"level {index} is not 8-bit RGB or YCbCr")
    across, down = -(-level.width // page.tilewidth), -(-level.height // page.tilelength)
    offsets = np.asarray(page.dataoffsets, np.uint64)
    sizes = np.asarray(page.databytecounts, np.uint64)
    tables = page.jpegtables or b""
    tiles = {across * down, len(offsets), len(sizes)}
    # TIFF asks for tiles of a multiple of 16; shrinking by 8 needs no less than whole blocks.
    whole_blocks = page.tilewidth % 16 == 0 and page.tilelength % 16 == 0
    if not whole_blocks or len(tiles) != 1 or not isinstance(tables, bytes):
        raise UnsupportedLayoutError(f"the tile table of level {index} breaks the TIFF format")
    # OpenSlide fills a tile that Aperio left out of a small level from the level below.
    if index and not sizes.all():
        raise UnsupportedLayoutError(f"level {index} has tiles left out")
    return StoredLevel(
        width=level.width,
        height=level.height,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
        across=across,
        offsets=offsets,
        sizes=sizes,
        tables=tables,
        ycbcr=page.photometric == _YCBCR,
    )


def check_complete(path: Path, file_size: int, levels: Sequence[StoredLevel]) -> None:
    """Raise `SlideUnreadableError` if a tile lies behind the end of the file."""
    end = max(int((level.offsets + level.sizes).max(initial=0)) for level in levels)
    if end > file_size:
        raise SlideUnreadableError(
            f"{path.name} is truncated: its last tile ends at byte {end:,}, the file at "
            f"{file_size:,}",
            "copy it again from the scanner or archive, or take it out of the folder",
        )
