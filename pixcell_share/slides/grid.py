"""Lay the grid of tiles over a slide and keep those that show tissue in focus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from pixcell_share.errors import NoTissueError, SettingsError, SlideError
from pixcell_share.slides.grid_format import TileGrid, level0_tile_px
from pixcell_share.slides.ink import ink_mask
from pixcell_share.slides.quality import (
    SHARPNESS_LIMIT,
    Image,
    edge_strength,
    is_glass,
    sharpness,
)
from pixcell_share.slides.reader import Slide
from pixcell_share.slides.tiles import read_tiles
from pixcell_share.slides.tissue import Tissue

Coords = NDArray[np.int64]
Reason = Literal["blank", "pen", "blurred", "few_edges"]

_OVERVIEW_MPP = 4.0
"""Resolution at which glass and pen are judged within a tile, µm/px."""

_COARSEST = 1.25
"""A slide may be this much coarser than the tiles asked for; beyond, they would be invented."""


@dataclass(frozen=True, kw_only=True)
class TilingSettings:
    """Which tiles are cut and which are kept."""

    tile_px: int = 256
    """Side of a tile, px."""

    mpp: float = 0.5
    """Resolution of a tile, µm/px; 0.5 is 20x."""

    overlap_px: int = 0
    """How far neighbouring tiles overlap, px of a tile."""

    min_tissue: float = 0.5
    """Least share of a tile that must lie in the tissue mask. At one half a tile belongs to the
    section more than to the glass; 0 takes every tile that the mask touches, as TRIDENT does."""

    edge_threshold: float = 15.0
    """DS-MIL's rule: least `edge_strength` (the paper's value is for 20x); 0 turns it off."""

    max_glass: float = 0.8
    """Largest share of a tile that may be clear glass."""

    max_pen: float = 0.05
    """Largest share of a tile that may be pen."""

    min_sharpness: float = SHARPNESS_LIMIT
    """Least `sharpness`; 0 turns the focus check off."""

    def __post_init__(self) -> None:
        if self.tile_px < 16 or self.mpp <= 0 or not 0 <= self.overlap_px < self.tile_px:
            raise SettingsError(
                f"tiles of {self.tile_px} px at {self.mpp} µm/px with {self.overlap_px} px overlap"
                " cannot be cut",
                "use 16 px or more, a positive µm/px, and an overlap smaller than the tile",
            )
        if not 0 <= self.min_tissue <= 1:
            raise SettingsError(
                f"min_tissue is {self.min_tissue}", "use a share between 0 and 1, such as 0.5"
            )


@dataclass(frozen=True, kw_only=True)
class GridReport:
    """What became of every candidate; the counts add up to ``candidates``."""

    candidates: int
    """Tiles of the grid that lie wholly on the slide."""

    kept: int
    """Tiles that are used."""

    no_tissue: int = 0
    """Too little of the tissue mask; their pixels were not read."""

    blank: int = 0
    """Mostly glass, by their pixels."""

    pen: int = 0
    """Pen, by their pixels."""

    blurred: int = 0
    """Out of focus."""

    few_edges: int = 0
    """Below DS-MIL's edge threshold."""

    def as_dict(self) -> dict[str, int]:
        """The counts by name, as reports and ``--json`` show them."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class SurveyedGrid(TileGrid):
    """A `TileGrid` that knows what was left out of it."""

    report: GridReport = GridReport(candidates=0, kept=0)
    """Counts by reason."""


def lay_grid(slide: Slide, tissue: Tissue, settings: TilingSettings | None = None) -> SurveyedGrid:
    """Lay a row-major grid from (0, 0) and keep the tiles that show tissue.

    The mask decides first; the pixels of what is left are then read once, tile by tile, for
    glass, pen, focus and DS-MIL's edge rule, in this order. Tiles that reach beyond the slide are
    never candidates.

    Raises:
        NoTissueError: no tile is left; the message holds the counts.
        SlideError: the slide was scanned coarser than ``settings.mpp``.
        SlideUnreadableError: the file is damaged.
    """
    chosen = settings or TilingSettings()
    if slide.mpp > chosen.mpp * _COARSEST:
        raise SlideError(
            f"slide {slide.slide_id} was scanned at {slide.mpp:g} µm/px, coarser than the"
            f" {chosen.mpp:g} µm/px asked for",
            f"leave it out, or ask for tiles at {slide.mpp:g} µm/px",
        )
    side = level0_tile_px(chosen.tile_px, chosen.mpp, slide.mpp)
    step = max(1, side - round(chosen.overlap_px * side / chosen.tile_px))
    corners, coverage = _candidates(tissue, side, step)
    grid = SurveyedGrid(
        slide_id=slide.slide_id,
        coords=corners[(coverage >= chosen.min_tissue) & (coverage > 0)],
        tile_px=chosen.tile_px,
        tile_px_level0=side,
        mpp=chosen.mpp,
        slide_mpp=slide.mpp,
        width=slide.width,
        height=slide.height,
        overlap_px=chosen.overlap_px,
    )
    return _surveyed(slide, grid, len(corners), chosen)


def reject_reason(tile: Image, settings: TilingSettings) -> Reason | None:
    """Why a tile, uint8 RGB (T, T, 3) at ``settings.mpp``, is left out; None if it is kept."""
    factor = max(1, round(_OVERVIEW_MPP / settings.mpp))
    picture = PilImage.fromarray(tile)
    overview = np.asarray(picture.reduce(factor))
    if is_glass(overview).mean() > settings.max_glass:
        return "blank"
    if ink_mask(overview, settings.mpp * factor).mean() > settings.max_pen:
        return "pen"
    if sharpness(picture, settings.mpp) < settings.min_sharpness:
        return "blurred"
    if settings.edge_threshold > 0 and edge_strength(tile) <= settings.edge_threshold:
        return "few_edges"
    return None


def _surveyed(
    slide: Slide, grid: SurveyedGrid, candidates: int, settings: TilingSettings
) -> SurveyedGrid:
    """``grid`` without the tiles that fail by their pixels, and the count of each reason."""
    reasons = list(_reasons(slide, grid, settings))
    counts: Counter[str] = Counter(reason for reason in reasons if reason is not None)
    kept = np.array([reason is None for reason in reasons], dtype=bool)
    report = GridReport(
        candidates=candidates, kept=int(kept.sum()), no_tissue=candidates - len(grid), **counts
    )
    if not report.kept:
        raise _no_tissue(slide.slide_id, report)
    return replace(grid, coords=grid.coords[kept], report=report)


def _reasons(slide: Slide, grid: TileGrid, settings: TilingSettings) -> Iterator[Reason | None]:
    return (reject_reason(tile, settings) for tile in read_tiles(slide, grid))


def _no_tissue(slide_id: str, report: GridReport) -> NoTissueError:
    counts: dict[str, Any] = {
        name.replace("_", " "): count for name, count in report.as_dict().items() if count
    }
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    return NoTissueError(
        f"slide {slide_id} has no usable tile ({listed or 'it is smaller than one tile'})",
        "look at its thumbnail; if the tissue is pale, lower min_tissue or edge_threshold",
    )


def _candidates(tissue: Tissue, side: int, step: int) -> tuple[Coords, NDArray[np.float64]]:
    """Corners (N, 2) of every whole tile, row by row, and the share of each that is tissue (N,).

    The share is exact for the mask as a plane of small rectangles: the integral image is linear
    between its nodes, so it can be read at any fraction of a mask pixel.
    """
    lefts = np.arange(0, tissue.width - side + 1, step, dtype=np.int64)
    tops = np.arange(0, tissue.height - side + 1, step, dtype=np.int64)
    across, down = tissue.scale
    integral = np.zeros(np.add(tissue.mask.shape, 1))
    integral[1:, 1:] = tissue.mask.cumsum(0).cumsum(1)
    rows = _between(integral, (tops + side) / down) - _between(integral, tops / down)
    boxes = _between(rows.T, (lefts + side) / across) - _between(rows.T, lefts / across)
    coverage = boxes.T * (across * down / side**2)
    corners = np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2)
    return corners, coverage.ravel().round(9)


def _between(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of ``values`` (R, C) read at fractional positions ``at`` (K,), linearly; (K, C)."""
    below = np.clip(at.astype(np.int64), 0, max(len(values) - 2, 0))
    weight = (at - below)[:, None]
    return values[below] * (1 - weight) + values[below + 1] * weight
