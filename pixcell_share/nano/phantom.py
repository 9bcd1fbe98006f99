"""Tiles of drawn slides: a small share of the training, so that the demo's slides are known."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixcell_share.files import atomic_path
from pixcell_share.nano.tiles import TILE_PX, Images
from pixcell_share.slides import find_slides, open_slide, read_tiles
from pixcell_share.slides.grid import TilingSettings, lay_grid
from pixcell_share.slides.phantom import draw_demo_slides
from pixcell_share.slides.tissue import find_tissue


@dataclass(frozen=True)
class PhantomSettings:
    """Which drawn slides are learned from."""

    slides: int = 3
    """Slides drawn; the tissue types take turns."""
    seed: int = 4242
    """Not the demo's seed: the demo's own slides stay unseen."""


def draw_phantom_tiles(path: Path, settings: PhantomSettings) -> Path:
    """Draw slides, cut them into 256-px tiles at 0.5 µm/px, keep the tiles in ``path`` (``.npy``).

    Does nothing where the file is there already.
    """
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            draw_demo_slides(Path(folder), count=settings.slides, seed=settings.seed)
            tiles = np.concatenate([_tiles_of(Path(folder), at) for at in range(settings.slides)])
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, tiles)
    return path


def _tiles_of(folder: Path, number: int) -> Images:
    """Tissue tiles (N, 256, 256, 3) of one slide."""
    with open_slide(find_slides(folder)[number]) as slide:
        settings = TilingSettings(tile_px=TILE_PX, mpp=0.5)
        grid = lay_grid(slide, find_tissue(slide), settings)
        return np.stack(list(read_tiles(slide, grid)))
