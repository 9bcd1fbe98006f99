"""Data for simulated sites: drawn slides, cut into tiles, and coloured as each site stains.

A quarter of a drawn slide plays a patient, since drawing takes longest. Sites differ in stain as
laboratories do: the optical densities of the tiles are scaled by factors of haematoxylin and eosin
(Ruifrok and Johnston 2001, as scikit-image has them).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hed2rgb, rgb2hed

from pixcell_share.files import atomic_write_text
from pixcell_share.slides import (
    SlideRecord,
    draw_demo_slides,
    find_slides,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)

SLIDES_PER_SITE = 3
"""One of each class; four patients a slide make twelve: the usual limits let them pass."""
TILES = 16
"""Of each patient, at most."""
_QUARTERS = 4
_STAINS = ((1.0, 1.0), (0.7, 1.5), (1.4, 0.8), (0.85, 0.65))
"""Factors of haematoxylin and eosin, site by site, then again."""


def make_site_data(folder: Path, sites: int) -> list[Path]:
    """A folder of tiles with ``tiles.csv`` for each simulated site; what is there is kept.

    Args:
        folder: for slides and tiles.
        sites: how many.

    Returns:
        The sites' folders.
    """
    made = [folder / f"tiles-{number + 1}" for number in range(sites)]
    if all((path / "tiles.csv").exists() for path in made):
        return made
    slides = folder / "slides"
    draw_demo_slides(slides, count=SLIDES_PER_SITE * sites, seed=100)
    rows: list[list[tuple[str, str, str]]] = [[] for _ in made]
    for place, record in enumerate(find_slides(slides, table=slides / "slides.csv")):
        number = place // SLIDES_PER_SITE
        made[number].mkdir(parents=True, exist_ok=True)
        for cut in _cut(record):
            Image.fromarray(stained(cut.tile, number)).save(made[number] / cut.file)
            rows[number].append((cut.file, cut.patient, str(record.label)))
    for path, found in zip(made, rows, strict=True):
        table = io.StringIO()
        lines = [("file", "case_id", "label"), *found]
        csv.writer(table, lineterminator="\n").writerows(lines)
        atomic_write_text(path / "tiles.csv", table.getvalue())
    return made


@dataclass(frozen=True)
class _Cut:
    tile: NDArray[np.uint8]
    """(256, 256, 3)."""
    file: str
    patient: str


def _cut(record: SlideRecord) -> Iterator[_Cut]:
    """Tiles of a slide, quarter by quarter."""
    with open_slide(record) as slide:
        grid = lay_grid(slide, find_tissue(slide))
        middle = np.median(grid.coords, axis=0)
        quarters = (grid.coords > middle) @ np.array([1, 2])
        taken = [0] * _QUARTERS
        for quarter, tile in zip(quarters, read_tiles(slide, grid), strict=True):
            if taken[quarter] < TILES:
                taken[quarter] += 1
                patient = f"{record.slide_id}-{quarter}"
                yield _Cut(tile, f"{patient}-{taken[quarter]:02d}.png", patient)


def stained(tile: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """A tile, uint8 (H, W, 3), as site ``number`` would have stained it."""
    haematoxylin, eosin = _STAINS[number % len(_STAINS)]
    if (haematoxylin, eosin) == (1.0, 1.0):
        return tile
    amounts = rgb2hed(tile) * np.array([haematoxylin, eosin, 1.0])
    return (np.clip(hed2rgb(amounts), 0, 1) * 255).round().astype(np.uint8)
