"""Data for simulated sites: drawn slides, cut into tiles, and coloured as each site stains.

Sites differ in stain as laboratories do: the optical densities of the tiles are scaled by factors
of haematoxylin and eosin (Ruifrok and Johnston 2001, as scikit-image has them).
"""

from __future__ import annotations

import csv
import io
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import hed2rgb, rgb2hed

from pixcell_share.files import atomic_write_text
from pixcell_share.slides import (
    draw_demo_slides,
    find_slides,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)

PATIENTS = 12
"""Of each site, a slide each: the fewest that pass the usual limits."""
TILES = 16
"""Of each patient."""
_CANVAS = (1280, 1536)
"""A quarter of a demo slide, which is enough for `TILES`."""
_STAINS = ((1.0, 1.0), (0.7, 1.5), (1.4, 0.8), (0.85, 0.65))
"""Factors of haematoxylin and eosin, site by site, then again."""


def make_site_data(folder: Path, number: int) -> Path:
    """Tiles of a simulated site and their ``tiles.csv``; what is there is kept.

    Args:
        folder: for the tiles.
        number: of the site, from 0: its patients and its stain.

    Returns:
        ``folder``.

    Raises:
        StorageError: it cannot be written, or the disk is full.
    """
    if (folder / "tiles.csv").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("file", "case_id", "label")]
    with tempfile.TemporaryDirectory() as drawn:
        slides = Path(drawn)
        draw_demo_slides(slides, count=PATIENTS, seed=100 + number, canvas=_CANVAS)
        for record in find_slides(slides, table=slides / "slides.csv"):
            with open_slide(record) as slide:
                tiles = read_tiles(slide, lay_grid(slide, find_tissue(slide)))
                for place, tile in enumerate(islice(tiles, TILES)):
                    name = f"{record.slide_id}-{place:02d}.png"
                    Image.fromarray(stained(tile, number)).save(folder / name)
                    rows.append((name, str(record.case_id), str(record.label)))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    atomic_write_text(folder / "tiles.csv", table.getvalue())
    return folder


def stained(tile: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """A tile, uint8 (H, W, 3), as site ``number`` would have stained it."""
    haematoxylin, eosin = _STAINS[number % len(_STAINS)]
    if (haematoxylin, eosin) == (1.0, 1.0):
        return tile
    amounts = rgb2hed(tile) * np.array([haematoxylin, eosin, 1.0])
    coloured: NDArray[np.float64] = np.clip(hed2rgb(amounts), 0, 1) * 255
    return coloured.round().astype(np.uint8)
