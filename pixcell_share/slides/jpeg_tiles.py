"""The fast path: decode the JPEG tiles of an SVS or tiled TIFF directly.

OpenSlide decodes every stored tile at full size into an RGBA picture. Where a slide is a TIFF of
JPEG tiles, this reader takes the same bytes through libjpeg-turbo and lets it shrink by 2, 4 or 8
while it transforms, which costs a fraction. Without shrinking the pixels equal OpenSlide's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides._jpeg_stream import complete_stream
from pixcell_share.slides._pyramid import Level, Window
from pixcell_share.slides._stored_tiles import (
    StoredLevel,
    UnsupportedLayoutError,
    check_complete,
    find_stored_levels,
)
from pixcell_share.slides._tile_cache import TileCache


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
        self._stored = find_stored_levels(path, vendor, levels)
        self._file = os.open(path, os.O_RDONLY)
        try:
            check_complete(path, os.fstat(self._file).st_size, self._stored)
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

    def take_as_rgb(self) -> None:
        """Take the stored components for RGB, whatever the TIFF says of them."""
        self._cache.clear()
        self._stored = tuple(replace(level, ycbcr=False) for level in self._stored)

    def read_window(self, window: Window) -> NDArray[np.uint8]:
        """The window's pixels, uint8 (height, width, 3); white outside and where no tile is.

        Raises:
            SlideUnreadableError: a stored tile is damaged.
        """
        stored, shrink = self._stored[window.level], window.shrink
        pixels = np.full((window.height, window.width, 3), 255, np.uint8)
        right = min(window.left + window.width, stored.width // shrink)
        bottom = min(window.top + window.height, stored.height // shrink)
        for row, from_y, to_y in _pieces(window.top, bottom, stored.tile_height // shrink):
            for column, from_x, to_x in _pieces(window.left, right, stored.tile_width // shrink):
                tile = self._tile(window.level, shrink, row * stored.across + column)
                if tile is not None:
                    pixels[to_y, to_x] = tile[from_y, from_x]
        return pixels

    def _tile(self, level: int, shrink: int, index: int) -> NDArray[np.uint8] | None:
        key = (level, shrink, index)
        tile = self._cache.get(key)
        if tile is None and self._stored[level].sizes[index]:
            try:
                tile = self._decode(level, shrink, index)
            except (ValueError, IndexError, OSError) as error:
                raise SlideUnreadableError(
                    f"{self._path.name} is damaged: level {level}, stored tile {index}: {error}",
                    "copy it again from the scanner or archive, or take it out of the folder",
                ) from error
            self._cache.put(key, tile)
        return tile

    def _decode(self, level: int, shrink: int, index: int) -> NDArray[np.uint8]:
        stored = self._stored[level]
        stream = self._stream(stored, index)
        # Before the pixels: a damaged header can ask for gigabytes.
        size = simplejpeg.decode_jpeg_header(stream)[:2]
        if size != (stored.tile_height, stored.tile_width):
            raise ValueError(f"its header says {size[1]} x {size[0]} px")
        height, width = stored.tile_height // shrink, stored.tile_width // shrink
        tile: NDArray[np.uint8] = simplejpeg.decode_jpeg(stream, min_height=height, min_width=width)
        self.decoded_tiles += 1
        return tile

    def _stream(self, stored: StoredLevel, index: int) -> bytes:
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


def _pieces(start: int, stop: int, step: int) -> Iterator[tuple[int, slice, slice]]:
    """How the pixels from ``start`` to ``stop`` along one side are cut by tiles of ``step``.

    Yields the tile's number, the pixels in the tile, and where they go, counted from ``start``.
    """
    at = max(start, 0)
    while at < stop:
        number = at // step
        end = min(stop, (number + 1) * step)
        yield number, slice(at - number * step, end - number * step), slice(at - start, end - start)
        at = end
