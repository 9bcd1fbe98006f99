"""Write the picture of a region: PNG, or tiled TIFF where it is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_path

PRIVATE = (
    "private: made from one region of one patient, and not checked for what it gives away; "
    "do not share it"
)
MAX_PNG_PX = 4096
_TILE = 256
_GAP_PX = 16
_PNG, _TIFF = {".png"}, {".tif", ".tiff"}
_MICROMETRES_IN_CM = 1e4

Picture = NDArray[np.uint8]


def choose_path(out: Path | None, size: int) -> Path:
    """Where to write: as asked for, else ``region.png``, or ``region.tif`` above 4096 px.

    Raises:
        SettingsError: neither PNG nor TIFF, or a PNG of more than 4096 px.
    """
    path = out or Path("region.png" if size <= MAX_PNG_PX else "region.tif")
    suffix = path.suffix.lower()
    if suffix not in _PNG | _TIFF:
        raise SettingsError(
            f"--out {path} is neither PNG nor TIFF", "end its name with .png or .tif"
        )
    if suffix in _PNG and size > MAX_PNG_PX:
        raise SettingsError(
            f"--out {path} would be a PNG of {size} px, which few programs open",
            "end its name with .tif: it is then stored in tiles",
        )
    return path


def write_picture(path: Path, strips: Iterable[Picture], size: int, mpp: float) -> None:
    """Write a square picture as its strips arrive.

    Args:
        path: PNG, which holds the whole picture in memory, or TIFF, which holds a row of tiles.
        strips: ``uint8 (rows, size, 3)`` from top to bottom.
        size: its side in px.
        mpp: its resolution in µm/px.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as part:
        if path.suffix.lower() in _PNG:
            _write_png(part, np.concatenate(list(strips)), mpp)
        else:
            _write_tiff(part, strips, size, mpp)


def side_by_side(real: Picture, synthetic: Picture) -> Picture:
    """The real region, a white gap, the synthetic one: ``(H, 2 W + gap, 3)``."""
    gap = np.full((len(real), _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([real, gap, synthetic], axis=1)


def write_pair(path: Path, pair: Picture, mpp: float) -> None:
    """Write the picture of `side_by_side` as PNG."""
    with atomic_path(path) as part:
        _write_png(part, pair, mpp)


def _write_png(path: Path, picture: Picture, mpp: float) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", PRIVATE)
    per_inch = 25400 / mpp
    Image.fromarray(picture).save(path, "PNG", pnginfo=note, dpi=(per_inch, per_inch))


def _write_tiff(path: Path, strips: Iterable[Picture], size: int, mpp: float) -> None:
    per_cm = _MICROMETRES_IN_CM / mpp
    tifffile.imwrite(
        path,
        _tiles(strips, size),
        shape=(size, size, 3),
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="rgb",
        compression="zlib",
        predictor=True,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        description=PRIVATE,
        metadata=None,
        bigtiff=size * size * 3 > 2**31,
    )


def _tiles(strips: Iterable[Picture], size: int) -> Iterator[Picture]:
    """Tiles row by row, padded with zeros at the right and lower edge."""
    for band in _bands(strips):
        for left in range(0, size, _TILE):
            tile = np.zeros((_TILE, _TILE, 3), np.uint8)
            part = band[:, left : left + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _bands(strips: Iterable[Picture]) -> Iterator[Picture]:
    """The same rows in bands of one tile; the last may be lower."""
    rest: Picture | None = None
    for strip in strips:
        rest = strip if rest is None else np.concatenate([rest, strip])
        while len(rest) >= _TILE:
            yield rest[:_TILE]
            rest = rest[_TILE:]
    if rest is not None and len(rest):
        yield rest
