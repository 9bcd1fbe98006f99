"""Make a slide as large as scanners make them, in a second and a few megabytes.

A picture of 4096 x 4096 px is repeated over the slide, with a margin of glass around it. Each
stored tile is encoded once, and the tile table of the TIFF points at it as often as it appears:
reading costs what it costs on a slide of 100,000 different tiles, the file stays small. The
pyramid has the levels 1, 4, 16 and 64, as Aperio's scanners write them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

TILE = 256
CELL = 4096
"""Side of the picture that is repeated."""

Encode = Callable[[NDArray[np.uint8]], bytes]

_DOWNSAMPLES = (1, 4, 16, 64)
_GLASS = 243
_CENTIMETRE_UM = 10_000


@dataclass(frozen=True)
class TiffLevel:
    """One level: its size in pixels, and for each tile in reading order which stream it is."""

    width: int
    height: int
    tile_px: int
    streams: Sequence[bytes]
    """The different JPEG streams."""
    order: Sequence[int]
    """For each tile of the level the index of its stream."""


def write_large_slide(
    path: Path,
    picture: NDArray[np.uint8],
    *,
    width: int = 100_000,
    height: int = 80_000,
    mpp: float = 0.5,
    quality: int = 70,
    subsampling: str = "420",
) -> Path:
    """Write the slide; the default size holds 105,984 tiles of 256 px of tissue.

    Args:
        path: where to, ending in .tif.
        picture: uint8 (4096, 4096, 3), see `repeat_to_cell`.
        width: of level 0 in pixels.
        height: of level 0 in pixels.
        mpp: µm/px of level 0.
        quality: of the JPEG tiles.
        subsampling: of their chroma: 420, 422 or 444.
    """
    if picture.shape != (CELL, CELL, 3):
        raise ValueError(f"the picture is {picture.shape}, not {(CELL, CELL, 3)}")

    def encode(tile: NDArray[np.uint8]) -> bytes:
        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(tile), quality=quality, colorsubsampling=subsampling
        )

    levels = []
    for downsample in _DOWNSAMPLES:
        small = np.asarray(Image.fromarray(picture).reduce(downsample))
        size = (width // downsample, height // downsample)
        tissue = _tissue_cells(width, height)
        if len(small) >= TILE:
            levels.append(_periodic_level(size, small, tissue, encode))
        else:
            levels.append(_drawn_level(size, small, tissue, encode))
    write_tiff(path, levels, mpp)
    return path


def repeat_to_cell(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill 4096 x 4096 px with a picture and its mirror images, without seams."""
    pair = np.concatenate([picture, picture[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[::-1]], axis=0)
    repeats = [-(-CELL // side) for side in block.shape[:2]]
    return np.tile(block, (*repeats, 1))[:CELL, :CELL]


def write_tiff(path: Path, levels: Sequence[TiffLevel], mpp: float) -> None:
    """Write levels of JPEG tiles (YCbCr) as a little-endian BigTIFF."""
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for index, level in enumerate(levels):
            starts = [_append(file, stream) for stream in level.streams]
            sizes = [len(stream) for stream in level.streams]
            order = np.asarray(level.order)
            offsets = np.asarray(starts, "<u8")[order].tobytes()
            counts = np.asarray(sizes, "<u8")[order].tobytes()
            # A table of one number stands in the directory itself.
            tables = [
                data if len(data) == 8 else struct.pack("<Q", _append(file, data))
                for data in (offsets, counts)
            ]
            directory = _directory(level, index, tables, mpp)
            here = _append(file, directory)
            file.seek(link)
            file.write(struct.pack("<Q", here))
            link = here + len(directory) - 8


def _append(file: BinaryIO, data: bytes) -> int:
    """Write at the end; return where."""
    at = file.seek(0, 2)
    file.write(data)
    return at


def _directory(level: TiffLevel, index: int, tables: Sequence[bytes], mpp: float) -> bytes:
    """One image file directory; its last 8 bytes link to the next one."""
    short, long, rational, long8 = 3, 4, 5, 16
    resolution = struct.pack("<2I", round(_CENTIMETRE_UM / mpp * 1000), 1000)
    tiles = len(level.order)
    entries = [
        (254, long, 1, struct.pack("<I", int(index > 0))),
        (256, long, 1, struct.pack("<I", level.width)),
        (257, long, 1, struct.pack("<I", level.height)),
        (258, short, 3, struct.pack("<3H", 8, 8, 8)),
        (259, short, 1, struct.pack("<H", 7)),  # JPEG
        (262, short, 1, struct.pack("<H", 6)),  # YCbCr
        (277, short, 1, struct.pack("<H", 3)),
        (282, rational, 1, resolution),
        (283, rational, 1, resolution),
        (284, short, 1, struct.pack("<H", 1)),
        (296, short, 1, struct.pack("<H", 3)),  # per centimetre
        (322, short, 1, struct.pack("<H", level.tile_px)),
        (323, short, 1, struct.pack("<H", level.tile_px)),
        (324, long8, tiles, tables[0]),
        (325, long8, tiles, tables[1]),
    ]
    packed = [struct.pack("<HHQ8s", *entry) for entry in entries]
    return struct.pack("<Q", len(entries)) + b"".join(packed) + struct.pack("<Q", 0)


def _tissue_cells(width: int, height: int) -> NDArray[np.bool_]:
    """Which cells show the picture: all but those at the edges."""
    cells = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
    cells[1:-1, 1:-1] = True
    return cells


def _periodic_level(
    size: tuple[int, int], cell: NDArray[np.uint8], tissue: NDArray[np.bool_], encode: Encode
) -> TiffLevel:
    """A level whose cell holds whole tiles: stream 0 is glass, then the cell's tiles."""
    per_cell = len(cell) // TILE
    streams = [encode(np.full((TILE, TILE, 3), _GLASS, np.uint8))]
    streams += [encode(tile) for tile in _squares(cell)]
    rows, columns = np.indices([-(-side // TILE) for side in reversed(size)])
    inner = (rows % per_cell) * per_cell + columns % per_cell
    order = np.where(tissue[rows // per_cell, columns // per_cell], inner + 1, 0)
    return TiffLevel(*size, TILE, streams, order.ravel().tolist())


def _drawn_level(
    size: tuple[int, int], cell: NDArray[np.uint8], tissue: NDArray[np.bool_], encode: Encode
) -> TiffLevel:
    """A level small enough to be drawn as a whole."""
    side = len(cell)
    across, down = (-(-pixels // TILE) * TILE for pixels in size)
    canvas = np.full((down + side, across + side, 3), _GLASS, np.uint8)
    for row, column in np.argwhere(tissue):
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = cell
    streams = [encode(tile) for tile in _squares(canvas[:down, :across])]
    return TiffLevel(*size, TILE, streams, range(len(streams)))


def _squares(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, len(picture), TILE):
        for x in range(0, picture.shape[1], TILE):
            yield picture[y : y + TILE, x : x + TILE]
