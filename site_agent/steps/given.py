"""Coordinates and features that a site has already, in TRIDENT's layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SettingsError, SlideError
from pixcell_share.slides import (
    FeatureFile,
    Slide,
    TileGrid,
    TilingSettings,
    read_coords,
    read_features,
    write_features,
)
from site_agent.models import Models

_ROWS = 4096


def given_grid(folder: Path, slide: Slide, tiling: TilingSettings) -> TileGrid:
    """The grid of ``slide`` in ``folder``, if it was laid for tiles of this size.

    Raises:
        SlideError: there is none for the slide, or it was laid for other tiles.
    """
    name = f"{slide.slide_id}_patches.h5"
    grid = read_coords(_find(folder, name), slide)
    if grid.tile_px != tiling.tile_px or abs(grid.mpp / tiling.mpp - 1) > 0.02:
        raise SlideError(
            f"{name} is for tiles of {grid.tile_px} px at {grid.mpp:g} µm/px, "
            f"not {tiling.tile_px} px at {tiling.mpp:g}",
            "give the --tile-px and --tile-mpp that the coordinates were made for",
        )
    return grid


def copy_features(
    folder: Path, target: Path, slide_id: str, grid: TileGrid, models: Models
) -> None:
    """Take over the features of a slide, if they belong to this grid and this model.

    Raises:
        SlideError: there are none for the slide, or they are of other tiles.
        SettingsError: they are of another encoder.
    """
    with read_features(_find(folder, f"{slide_id}.h5")) as given:
        if not np.array_equal(given.coords, grid.coords):
            raise SlideError(
                f"the features of {slide_id} are not of the tiles in use",
                "give --coords with the files that the features were made from",
            )
        if given.shape[-1] != models.generator.embedding_dim:
            raise SettingsError(
                f"the features of {slide_id} have {given.shape[-1]} numbers a tile, "
                f"and the model was trained with {models.generator.embedding_dim}",
                "give the features of the encoder that the model was trained with",
            )
        write_features(target, grid, _rows(given), models.encoder.name)


def _rows(features: FeatureFile) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), _ROWS):
        yield features[start : start + _ROWS]


def _find(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        raise SlideError(
            f"there is no {name} in {folder}", "take the slide out, or leave that option out"
        )
    return found[0]
