"""The grid of tiles of one slide: which squares of level 0 become tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL_TOLERANCE = 0.01
"""A ratio of resolutions this close to a whole number counts as that number.

Scanners write 0.2498 or 0.499 µm/px where 0.25 and 0.5 are meant; resampling by 1.002 would only
blur. At 1 % a 256 px tile is off by less than 3 px in what it covers.
"""

_MAGNIFICATIONS = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))


@dataclass(frozen=True, eq=False)
class TileGrid:
    """Square tiles on level 0 of one slide, in reading order."""

    slide_id: str
    """Identifier of the slide, unique in the run."""
    coords: NDArray[np.int64]
    """(N, 2) top-left corners (x, y) in pixels of level 0, row by row."""
    tile_px: int
    """Side of a tile as it is read, in pixels."""
    tile_px_level0: int
    """Side of the same square in pixels of level 0."""
    mpp: float
    """Resolution of a tile, in µm/px."""
    slide_mpp: float
    """Resolution of level 0, in µm/px."""
    width: int
    """Width of level 0 in pixels."""
    height: int
    """Height of level 0 in pixels."""
    overlap_px: int = 0
    """How far neighbours overlap, in pixels of a tile."""

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def attributes(self) -> dict[str, int | float | str]:
        """What TRIDENT writes beside ``coords``, and the exact resolutions.

        ``savetodir`` is always ``"."``: a path would tie the bytes of the file to this machine.
        """
        return {
            "patch_size": self.tile_px,
            "patch_size_level0": self.tile_px_level0,
            "level0_magnification": nominal_magnification(self.slide_mpp),
            "target_magnification": nominal_magnification(self.mpp),
            "overlap": self.overlap_px,
            "name": self.slide_id,
            "savetodir": ".",
            "level0_width": self.width,
            "level0_height": self.height,
            "level0_mpp": self.slide_mpp,
            "target_mpp": self.mpp,
        }


def level0_tile_px(tile_px: int, mpp: float, slide_mpp: float) -> int:
    """Side in level-0 pixels of a tile of ``tile_px`` at ``mpp``, on a slide of ``slide_mpp``.

    A ratio within `LEVEL_TOLERANCE` of a whole number (or of one over a whole number) is that
    number, so that such tiles are read without interpolation.
    """
    ratio = mpp / slide_mpp
    nearest = float(round(ratio)) if ratio >= 1 else 1 / round(1 / ratio)
    if abs(ratio - nearest) <= LEVEL_TOLERANCE * nearest:
        ratio = nearest
    return max(1, round(tile_px * ratio))


def nominal_magnification(mpp: float) -> int:
    """The objective that people name for ``mpp`` µm/px: 0.25 is 40, 0.5 is 20 (as TRIDENT)."""
    return next((power for limit, power in _MAGNIFICATIONS if mpp < limit), 1)
