"""Small tiled TIFFs for the tests of the slide readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.slides import Slide, SlideRecord, TileGrid, level0_tile_px, open_slide

SUBSAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Tissue-like colours with detail at several scales, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((height, width))
    for step, weight in ((64, 30.0), (16, 25.0), (5, 15.0)):
        coarse = rng.normal(size=(-(-height // step) + 1, -(-width // step) + 1)).astype(np.float32)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        layers += weight * np.asarray(smooth)
    stain = np.array([190.0, 130.0, 180.0]) + layers[..., None] * np.array([0.7, 1.0, 0.6])
    return np.clip(stain, 20, 250).astype(np.uint8)


def jpeg_tiles(
    picture: NDArray[np.uint8], tile: int, quality: int, subsampling: str
) -> Iterator[bytes]:
    """The picture's tiles in reading order, padded at the right and the lower edge."""
    rows, columns = (-(-side // tile) * tile for side in picture.shape[:2])
    pad = ((0, rows - picture.shape[0]), (0, columns - picture.shape[1]), (0, 0))
    padded = np.pad(picture, pad, mode="edge")
    for y in range(0, rows, tile):
        for x in range(0, columns, tile):
            square = np.ascontiguousarray(padded[y : y + tile, x : x + tile])
            yield simplejpeg.encode_jpeg(square, quality=quality, colorsubsampling=subsampling)


def write_slide(
    path: Path,
    picture: NDArray[np.uint8],
    *,
    mpp: float | None = 0.25,
    downsamples: tuple[int, ...] = (1,),
    tile: int = 256,
    quality: int = 80,
    subsampling: str = "420",
) -> Path:
    """A tiled pyramidal JPEG TIFF that OpenSlide opens as generic-tiff."""
    unit: dict[str, Any] = {"resolutionunit": 1}
    if mpp is not None:
        unit = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as tiff:
        for downsample in downsamples:
            level = np.asarray(Image.fromarray(picture).reduce(downsample))
            tiff.write(
                jpeg_tiles(level, tile, quality, subsampling),
                shape=level.shape,
                dtype="uint8",
                tile=(tile, tile),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=SUBSAMPLING[subsampling],
                subfiletype=int(downsample > 1),
                metadata=None,
                **unit,
            )
    return path


def opened(path: Path, mpp: float | None = None) -> Slide:
    """The slide, without the check that it is brightfield."""
    return open_slide(SlideRecord(path.stem, path, mpp), inspect=False)


def full_grid(slide: Slide, tile_px: int = 256, mpp: float = 0.5, shift: int = 0) -> TileGrid:
    """Tiles over the whole slide, those at the edges too; ``shift`` moves the grid."""
    size = level0_tile_px(tile_px, mpp, slide.mpp)
    columns, rows = (np.arange(shift, side, size) for side in (slide.width, slide.height))
    coords = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.int64)
    return TileGrid(
        slide.slide_id, coords, tile_px, size, mpp, slide.mpp, slide.width, slide.height
    )
