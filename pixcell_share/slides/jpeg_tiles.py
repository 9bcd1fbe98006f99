"""The fast path: decode the JPEG tiles of an SVS or tiled TIFF directly.

OpenSlide decodes every stored tile at full size into an RGBA picture. Where a slide is a TIFF of
JPEG tiles, this reader takes the same bytes through libjpeg-turbo and lets it shrink by 2, 4 or 8
while it transforms, which costs a fraction. Without shrinking the pixels equal OpenSlide's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides._jpeg_stream import complete_stream
from pixcell_share.slides._pyramid import Level, Window
from pixcell_share.slides._tile_cache import TileCache

# Vendors whose levels OpenSlide draws tile by tile, with nothing laid over or moved.
_VENDORS = frozenset({"aperio", "generic-tiff"})
_JPEG = 7
_RGB, _YCBCR = 2, 6


class UnsupportedLayoutError(Exception):
    """The slide is no plain pyramid of JPEG tiles; the text says why."""


@dataclass(frozen=True, eq=False)
class _StoredLevel:
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


class JpegTiles:
    """Reads windows of a tiled-JPEG TIFF; one reader serves one thread.

    Args:
        path: the slide.
        vendor: OpenSlide's ``openslide.vendor``.
        levels: the levels as OpenSlide counts them.
        cache_bytes: decoded tiles to keep, so that row-major reading decodes each about once.

    Raises:
        UnsupportedLayoutError: not a plain pyramid of JPEG tiles: OpenSlide has to read it.
        SlideUnreadableError: the file ends before its last tile.
    """

    shrinks: tuple[int, ...] = (8, 4, 2)

    def __init__(
        self, path: Path, vendor: str, levels: tuple[Level, ...], cache_bytes: int
    ) -> None:
        self.levels = levels
        self.decoded_tiles = 0
        self._path = path
        self._cache = TileCache(cache_bytes)
        self._stored = _find_stored_levels(path, vendor, levels)
        self._file = os.open(path, os.O_RDONLY)
        try:
            _check_complete(path, os.fstat(self._file).st_size, self._stored)
            self._probe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and forget the decoded tiles."""
        self._cache.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read_window(self, window: Window) -> NDArray[np.uint8]:
        """The window's pixels, uint8 (height, width, 3); white outside and where no tile is.

        Raises:
            SlideUnreadableError: a stored tile is damaged.
        """
        stored = self._stored[window.level]
        tile_width = stored.tile_width // window.shrink
        tile_height = stored.tile_height // window.shrink
        left, top = max(window.left, 0), max(window.top, 0)
        right = min(window.left + window.width, stored.width // window.shrink)
        bottom = min(window.top + window.height, stored.height // window.shrink)
        pixels = np.full((window.height, window.width, 3), 255, np.uint8)
        if right <= left or bottom <= top:
            return pixels
        for row in range(top // tile_height, (bottom - 1) // tile_height + 1):
            y0, y1 = max(top, row * tile_height), min(bottom, (row + 1) * tile_height)
            for column in range(left // tile_width, (right - 1) // tile_width + 1):
                tile = self._tile(window.level, window.shrink, row, column)
                if tile is None:
                    continue
                x0, x1 = max(left, column * tile_width), min(right, (column + 1) * tile_width)
                pixels[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left] = (
                    tile[
                        y0 - row * tile_height : y1 - row * tile_height,
                        x0 - column * tile_width : x1 - column * tile_width,
                    ]
                )
        return pixels

    def _tile(self, level: int, shrink: int, row: int, column: int) -> NDArray[np.uint8] | None:
        index = row * self._stored[level].across + column
        key = (level, shrink, index)
        tile = self._cache.get(key)
        if tile is None and self._stored[level].sizes[index]:
            try:
                tile = self._decode(level, shrink, index)
            except (ValueError, IndexError) as error:
                raise SlideUnreadableError(
                    f"{self._path.name} is damaged: level {level}, stored tile {index}: {error}",
                    "copy it again from the scanner or archive, or take it out of the folder",
                ) from error
            self._cache.put(key, tile)
        return tile

    def _decode(self, level: int, shrink: int, index: int) -> NDArray[np.uint8]:
        stored = self._stored[level]
        stream = self._stream(stored, index)
        height, width = stored.tile_height // shrink, stored.tile_width // shrink
        tile: NDArray[np.uint8] = simplejpeg.decode_jpeg(stream, min_height=height, min_width=width)
        if tile.shape != (height, width, 3):
            raise ValueError(f"it decodes to {tile.shape}, not {(height, width, 3)}")
        self.decoded_tiles += 1
        return tile

    def _stream(self, stored: _StoredLevel, index: int) -> bytes:
        data = os.pread(self._file, int(stored.sizes[index]), int(stored.offsets[index]))
        return complete_stream(data, stored.tables, ycbcr=stored.ycbcr)

    def _probe(self) -> None:
        """Look at one header of each level, to find streams that this decoder does not take.

        A stream with a good header that then fails to decode is damage: OpenSlide fails on it too.
        """
        for level, stored in enumerate(self._stored):
            present = np.flatnonzero(stored.sizes)
            if not len(present):
                continue
            try:
                size = simplejpeg.decode_jpeg_header(self._stream(stored, int(present[0])))[:2]
            except (ValueError, IndexError) as error:
                raise UnsupportedLayoutError(
                    f"the JPEG tiles of level {level} cannot be decoded: {error}"
                ) from error
            if size != (stored.tile_height, stored.tile_width):
                raise UnsupportedLayoutError(f"the JPEG tiles of level {level} measure {size}")


def _find_stored_levels(
    path: Path, vendor: str, levels: tuple[Level, ...]
) -> tuple[_StoredLevel, ...]:
    if vendor not in _VENDORS:
        raise UnsupportedLayoutError(f"{vendor or 'unknown'} slides are not plain tiled TIFFs")
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [tiff.pages[index] for index in range(len(tiff.pages))]
            tiled = [page for page in pages if page.is_tiled]
            return tuple(_stored_level(tiled, i, level) for i, level in enumerate(levels))
    except (tifffile.TiffFileError, OSError) as error:
        raise UnsupportedLayoutError(f"tifffile cannot read it: {error}") from error


def _stored_level(pages: Sequence[Any], index: int, level: Level) -> _StoredLevel:
    """The page that holds ``level``: the first tiled one of its size, as OpenSlide takes it."""
    size = (level.width, level.height)
    page = next((p for p in pages if (p.imagewidth, p.imagelength) == size), None)
    if page is None:
        raise UnsupportedLayoutError(f"level {index} is not stored as tiles of its own")
    if page.compression != _JPEG:
        raise UnsupportedLayoutError(
            f"level {index} is stored as {page.compression.name}, not JPEG"
        )
    layout = (page.photometric in (_RGB, _YCBCR), page.samplesperpixel, page.bitspersample)
    if layout != (True, 3, 8) or page.planarconfig != 1:
        raise UnsupportedLayoutError(f"level {index} is not 8-bit RGB or YCbCr")
    sizes = np.asarray(page.databytecounts, np.uint64)
    # OpenSlide fills a tile that Aperio left out of a small level from the level below.
    if index and not sizes.all():
        raise UnsupportedLayoutError(f"level {index} has tiles left out")
    return _StoredLevel(
        width=level.width,
        height=level.height,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
        across=-(-level.width // page.tilewidth),
        offsets=np.asarray(page.dataoffsets, np.uint64),
        sizes=sizes,
        tables=page.jpegtables or b"",
        ycbcr=page.photometric == _YCBCR,
    )


def _check_complete(path: Path, file_size: int, levels: Sequence[_StoredLevel]) -> None:
    end = max(int((level.offsets + level.sizes).max(initial=0)) for level in levels)
    if end > file_size:
        raise SlideUnreadableError(
            f"{path.name} is truncated: its last tile ends at byte {end:,}, the file at "
            f"{file_size:,}",
            "copy it again from the scanner or archive, or take it out of the folder",
        )
