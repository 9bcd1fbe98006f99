"""Which pixels of which level a tile is made of, and how they become the tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixcell_share.slides.grid_format import LEVEL_TOLERANCE

# Bicubic interpolation looks two source pixels (times the ratio) to each side.
_BICUBIC_SUPPORT = 2.0


@dataclass(frozen=True)
class Level:
    """One level of a slide: its size in pixels and how many level-0 pixels one of them spans."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class Window:
    """A rectangle of a level, in pixels of that level shrunk by ``shrink``."""

    level: int
    shrink: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Plan:
    """How to make one tile: read ``window``, then average or interpolate it to the tile."""

    window: Window
    reduce: int
    """Average squares of this side; 0 when the ratio is no whole number and ``box`` applies."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom of the tile inside the window."""


class LevelReader(Protocol):
    """Reads RGB pixels of one level, white outside the slide."""

    levels: tuple[Level, ...]
    shrinks: tuple[int, ...]
    """Factors by which pixels can be shrunk while they are decoded, the largest first."""

    def read_window(self, window: Window) -> NDArray[np.uint8]:
        """The window's pixels, uint8 (height, width, 3)."""
        ...


def read_square(reader: LevelReader, x: int, y: int, size: int, tile_px: int) -> NDArray[np.uint8]:
    """The square of ``size`` level-0 pixels at (x, y) as a tile, uint8 (tile_px, tile_px, 3).

    A whole-number ratio is averaged over squares of pixels; any other ratio goes through
    Pillow's bicubic filter, widened by the ratio, so that nothing aliases.
    """
    plan = plan_square(reader.levels, reader.shrinks, x, y, size, tile_px)
    pixels = reader.read_window(plan.window)
    if plan.reduce == 1:
        return pixels
    image = Image.fromarray(pixels)
    if plan.reduce:
        return np.asarray(image.reduce(plan.reduce))
    resized = image.resize((tile_px, tile_px), Image.Resampling.BICUBIC, box=plan.box)
    return np.asarray(resized)


def plan_square(
    levels: Sequence[Level], shrinks: Sequence[int], x: int, y: int, size: int, tile_px: int
) -> Plan:
    """Choose the level, the shrinking while decoding, and what is left to resample."""
    index = best_level(levels, size / tile_px)
    downsample = levels[index].downsample
    left, top, side = x / downsample, y / downsample, size / downsample
    factor = round(side / tile_px)
    # Less than half a pixel over the whole tile: the level fits, and is read as it is.
    if factor and abs(side - factor * tile_px) <= 0.5:
        return _plan_whole(levels, index, shrinks, round(left), round(top), tile_px, factor)
    return _plan_fractional(levels, index, shrinks, (left, top, side), tile_px)


def best_level(levels: Sequence[Level], wanted: float) -> int:
    """Index of the coarsest level that still has the wanted detail, to `LEVEL_TOLERANCE`."""
    fine = [i for i, level in enumerate(levels) if level.downsample <= wanted * _SLACK]
    return max(fine, key=lambda i: levels[i].downsample, default=0)


_SLACK = 1 + LEVEL_TOLERANCE


def _plan_whole(
    levels: Sequence[Level],
    index: int,
    shrinks: Sequence[int],
    left: int,
    top: int,
    tile_px: int,
    factor: int,
) -> Plan:
    side = factor * tile_px
    shrink = 1
    if _inside(levels[index], left, top, side):
        fitting = (s for s in shrinks if factor % s == 0 and left % s == 0 and top % s == 0)
        shrink = next(fitting, 1)
    side //= shrink
    window = Window(index, shrink, left // shrink, top // shrink, side, side)
    return Plan(window, factor // shrink, (0, 0, side, side))


def _plan_fractional(
    levels: Sequence[Level],
    index: int,
    shrinks: Sequence[int],
    square: tuple[float, float, float],
    tile_px: int,
) -> Plan:
    left, top, side = square
    shrink = 1
    if _inside(levels[index], left, top, side):
        shrink = next((s for s in shrinks if s <= side / tile_px * _SLACK), 1)
    left, top, side = left / shrink, top / shrink, side / shrink
    margin = math.ceil(_BICUBIC_SUPPORT * max(1.0, side / tile_px)) + 1
    x0, y0 = math.floor(left) - margin, math.floor(top) - margin
    width = math.ceil(left + side) + margin - x0
    height = math.ceil(top + side) + margin - y0
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    return Plan(Window(index, shrink, x0, y0, width, height), 0, box)


def _inside(level: Level, left: float, top: float, side: float) -> bool:
    """Whether the square lies in the level: past its edge, stored padding would be mixed in."""
    return left >= 0 and top >= 0 and left + side <= level.width and top + side <= level.height
