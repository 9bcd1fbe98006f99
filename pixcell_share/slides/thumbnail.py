"""A small picture of a slide with its tissue outlines and its tiles, for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixcell_share.files import atomic_path
from pixcell_share.slides.grid_format import TileGrid
from pixcell_share.slides.reader import Slide
from pixcell_share.slides.tissue import Tissue

Pixels = NDArray[np.uint8]

_TILE_LINE = (20, 60, 200)
_OUTLINE = (0, 160, 90)
_HAZE = 0.55
"""How far what is not a tile fades towards white."""

_SMALLEST_CELL = 5.0
"""Tiles smaller than this in the picture are shown by the fading alone, px."""


def write_thumbnail(
    path: Path, slide: Slide, tissue: Tissue, grid: TileGrid, *, max_px: int = 1400
) -> None:
    """Write a JPEG or PNG, by the suffix of ``path``: kept tiles clear and framed, the rest faded.

    Only the slide's own pixels are shown, never its label or macro image.

    Raises:
        StorageError: the file cannot be written.
        SlideUnreadableError: the slide is damaged.
    """
    picture = draw_overview(slide.thumbnail(max_px), tissue, grid)
    format_ = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        picture.save(file, format_, quality=88)


def draw_overview(thumbnail: Pixels, tissue: Tissue, grid: TileGrid) -> Image.Image:
    """``thumbnail``, uint8 RGB (H, W, 3) of the whole slide, with tiles and outlines drawn in."""
    across, down = thumbnail.shape[1] / grid.width, thumbnail.shape[0] / grid.height
    boxes = np.concatenate([grid.coords, grid.coords + grid.tile_px_level0], axis=1)
    boxes = np.round(boxes * (across, down, across, down)).astype(int)
    clear = np.zeros(thumbnail.shape[:2], dtype=bool)
    for left, top, right, bottom in boxes:
        clear[top:bottom, left:right] = True
    faded = thumbnail + (255 - thumbnail) * _HAZE
    picture = Image.fromarray(np.where(clear[..., None], thumbnail, faded).astype(np.uint8))

    draw = ImageDraw.Draw(picture)
    if grid.tile_px_level0 * across >= _SMALLEST_CELL:
        for box in boxes.tolist():
            draw.rectangle(box, outline=_TILE_LINE)
    for polygon in tissue.polygons:
        for ring in (polygon.outer, *polygon.holes):
            points = [(x * across, y * down) for x, y in ring.tolist()]
            draw.line(points, fill=_OUTLINE, width=2, joint="curve")
    return picture
