"""Tiles of drawn slides by part and class: something to try an evaluation on."""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path

from PIL import Image

from pixcell_share.errors import SettingsError
from pixcell_share.files import storage_errors
from pixcell_share.slides.grid import lay_grid
from pixcell_share.slides.phantom import LABELS, draw_demo_slides
from pixcell_share.slides.reader import open_slide
from pixcell_share.slides.records import SlideRecord, find_slides
from pixcell_share.slides.tiles import read_tiles
from pixcell_share.slides.tissue import find_tissue

PARTS = ("train", "val", "test")
_CANVAS = (1280, 1536)
"""A quarter of a demo slide, which is enough for `_TILES`."""
_TILES = 16
"""Of each slide."""


def draw_demo_tiles(folder: Path, *, seed: int = 77) -> int:
    """Draw ``folder/PART/CLASS/*.png``, 256 px at 0.5 µm/px; each part has a slide of each class.

    Args:
        folder: must not exist; it is there once all tiles are.
        seed: another seed gives other slides; the same one gives the same bytes.

    Returns:
        The number of tiles.

    Raises:
        SettingsError: the folder exists.
        StorageError: it cannot be written, or the disk is full.
    """
    if folder.exists():
        raise SettingsError(f"{folder} exists already", "name a folder that does not")
    part = folder.with_name(f".{folder.name}.part")
    with storage_errors(folder), tempfile.TemporaryDirectory() as slides:
        shutil.rmtree(part, ignore_errors=True)
        count = len(PARTS) * len(LABELS)
        draw_demo_slides(Path(slides), count=count, seed=seed, canvas=_CANVAS)
        records = find_slides(Path(slides), table=Path(slides) / "slides.csv")
        written = sum(
            _cut(record, part / PARTS[number // len(LABELS)] / str(record.label))
            for number, record in enumerate(records)
        )
        part.rename(folder)
    return written


def _cut(record: SlideRecord, folder: Path) -> int:
    """Write the first tiles of a slide; their number."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    with open_slide(record) as slide:
        grid = lay_grid(slide, find_tissue(slide))
        for tile in islice(read_tiles(slide, grid), _TILES):
            number += 1
            Image.fromarray(tile).save(folder / f"{record.slide_id}-{number:02d}.png")
    return number
