"""The grid of a tile set: every picture that shows a stained section, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import NoTissueError, SlideError
from pixcell_share.slides.grid import GridReport, SurveyedGrid, TilingSettings, reject_reason
from pixcell_share.slides.picture_strip import PictureStrip, contact_sheet
from pixcell_share.slides.quality import require_brightfield

Pixels = NDArray[np.uint8]

MAX_RATIO = 1.25
"""The pictures' own resolution may be this far from the one asked for, as with slides; beyond, the
models would see tissue at a scale that they do not know."""

_SAME = 1.02
_SHEET_PX = 1400


@dataclass(frozen=True, eq=False)
class LaidPictures:
    """What one pass over the pictures of a tile set gave."""

    grid: SurveyedGrid
    """The pictures that are used."""
    sheet: Pixels
    """Contact sheet of all pictures, uint8 RGB."""
    mpp: float
    """µm/px of the tiles as they are read; what was asked for where the pictures' is unknown."""
    notes: tuple[str, ...]
    """Remarks for the report, in plain sentences."""


def lay_pictures(strip: PictureStrip, settings: TilingSettings | None = None) -> LaidPictures:
    """Take every picture as a tile, but those that show glass or pen.

    Focus and edges are not judged: their limits hold for a known µm/px, and whoever cut the tiles
    has chosen them.

    Raises:
        SlideError: the pictures are known to be at another resolution than ``settings.mpp``.
        NoTissueError: no picture is left.
        NotBrightfieldError: the pictures are not of a stained section.
        SlideUnreadableError: a picture is damaged, or not square.
    """
    chosen = settings or TilingSettings()
    mpp, notes = _resolution(strip, chosen)
    reasons: list[Literal["blank", "pen"] | None] = []
    tiles = _judged(strip, chosen, reasons)
    sheet = contact_sheet(tiles, len(strip.pictures), _SHEET_PX)
    require_brightfield(sheet, strip.slide_id)
    return LaidPictures(_grid(strip, chosen, reasons), sheet, mpp, notes)


def _judged(
    strip: PictureStrip, settings: TilingSettings, reasons: list[Literal["blank", "pen"] | None]
) -> Iterator[Pixels]:
    """The tiles; ``reasons`` gets why each is not used, or None."""
    only_glass_and_pen = replace(settings, min_sharpness=0.0, edge_threshold=0.0)
    for index in range(len(strip.pictures)):
        tile = strip.square(index * strip.side, 0, strip.side, settings.tile_px)
        reason = reject_reason(tile, only_glass_and_pen)
        reasons.append(reason if reason in ("blank", "pen") else None)
        yield tile


def _grid(
    strip: PictureStrip,
    settings: TilingSettings,
    reasons: list[Literal["blank", "pen"] | None],
) -> SurveyedGrid:
    counts = Counter(reason for reason in reasons if reason is not None)
    kept = np.flatnonzero([reason is None for reason in reasons])
    if not len(kept):
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise NoTissueError(
            f"{strip.slide_id} has no usable picture ({listed})", "look at them, or take them out"
        )
    return SurveyedGrid(
        slide_id=strip.slide_id,
        coords=np.stack([kept * strip.side, np.zeros_like(kept)], axis=1).astype(np.int64),
        tile_px=settings.tile_px,
        tile_px_level0=strip.side,
        mpp=settings.mpp,
        # What makes a picture of ``side`` px a tile of ``tile_px`` at ``mpp``: the two agree.
        slide_mpp=settings.mpp * settings.tile_px / strip.side,
        width=strip.width,
        height=strip.height,
        report=GridReport(
            candidates=len(reasons),
            kept=len(kept),
            blank=counts["blank"],
            pen=counts["pen"],
        ),
    )


def _resolution(strip: PictureStrip, settings: TilingSettings) -> tuple[float, tuple[str, ...]]:
    """µm/px of the tiles as read, and what the report should say about it."""
    if not strip.mpp:
        return settings.mpp, (f"µm/px unknown: taken as the {settings.mpp:g} asked for",)
    mpp = strip.mpp * strip.side / settings.tile_px
    ratio = max(mpp / settings.mpp, settings.mpp / mpp)
    if ratio > MAX_RATIO:
        raise SlideError(
            f"the pictures of {strip.slide_id} are {strip.side} px at {strip.mpp:g} µm/px: as tiles"
            f" of {settings.tile_px} px they are at {mpp:.3g} µm/px, not {settings.mpp:g}",
            "cut tiles of another size, or give the --tile-mpp and --tile-px that they have",
        )
    if ratio > _SAME:
        return mpp, (f"its tiles are at {mpp:.3g} µm/px, taken as the {settings.mpp:g} asked for",)
    return mpp, ()
