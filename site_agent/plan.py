"""What a run would do, how long it would take, and the disk it would need: ``--dry-run``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixcell_share.errors import SlideError
from pixcell_share.progress import View
from pixcell_share.slides import (
    PictureStrip,
    Slide,
    SlideRecord,
    TileGrid,
    find_tissue,
    open_slide,
)
from pixcell_share.slides.grid_format import level0_tile_px
from site_agent.inputs import find_records
from site_agent.models import Models
from site_agent.rates import Rates, measure_rates
from site_agent.settings import SynthesisSettings

_PROBE_TILES = 8


@dataclass(frozen=True, kw_only=True)
class SlidePlan:
    """One slide: about how many tiles it would give, or why it would be left out."""

    slide_id: str
    tiles: int = 0
    mpp: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole run, estimated from the tissue on the thumbnails and a few measured tiles."""

    slides: tuple[SlidePlan, ...]
    tiles: int
    """Real tiles, an upper estimate: the tile checks will leave some out."""
    synthetic: int
    """Synthetic tiles."""
    seconds: float
    """Time on this machine, all parts together."""
    bytes_needed: int
    """Disk: private stores and bundle."""
    bytes_free: int
    rates: Rates | None


def make_plan(settings: SynthesisSettings, view: View) -> Plan:
    """Look at every slide's thumbnail and time a few tiles; nothing is written.

    Raises:
        SettingsError: the settings cannot work.
        WeightsError: the models cannot be loaded.
    """
    records = find_records(settings)
    with view.stage("look", len(records), "slides") as advance:
        slides = []
        for record in records:
            slides.append(_plan_slide(record, settings))
            advance(1)
    limit = settings.max_tiles or 2**62
    tiles = sum(slide.tiles for slide in slides)
    synthetic = sum(min(slide.tiles, limit) for slide in slides) * settings.per_tile
    rates = _probe(records, slides, settings)
    return Plan(
        slides=tuple(slides),
        tiles=tiles,
        synthetic=synthetic,
        # Each tile is read for the tile checks and for the encoder; each synthetic one is
        # embedded once more to be checked.
        seconds=2 * tiles / rates.read
        + (tiles + synthetic) / rates.embed
        + synthetic / rates.generate
        if rates
        else 0.0,
        bytes_needed=2 * synthetic * settings.tiling.tile_px**2 * 3 + tiles * 8192,
        bytes_free=shutil.disk_usage(_existing(settings.out)).free,
        rates=rates,
    )


def _plan_slide(record: SlideRecord, settings: SynthesisSettings) -> SlidePlan:
    try:
        with open_slide(record) as slide:
            if isinstance(slide, PictureStrip):
                return SlidePlan(slide_id=record.slide_id, tiles=len(slide.pictures), mpp=slide.mpp)
            tissue = find_tissue(slide, settings.tissue)
            side = level0_tile_px(settings.tiling.tile_px, settings.tiling.mpp, slide.mpp)
            step = side * (1 - settings.tiling.overlap_px / settings.tiling.tile_px)
            area = float(np.count_nonzero(tissue.mask)) * tissue.downsample**2
            return SlidePlan(slide_id=record.slide_id, tiles=int(area / step**2), mpp=slide.mpp)
    except SlideError as error:
        return SlidePlan(slide_id=record.slide_id, reason=error.cause)


def _probe(
    records: Sequence[SlideRecord], slides: Sequence[SlidePlan], settings: SynthesisSettings
) -> Rates | None:
    usable = [r for r, plan in zip(records, slides, strict=True) if plan.tiles]
    if not usable:
        return None
    with open_slide(usable[0]) as slide:
        grid = _probe_grid(slide, settings)
    return measure_rates(
        usable[0],
        grid,
        Models(settings),
        settings,
        read_tiles_count=_PROBE_TILES,
        embed_count=_PROBE_TILES,
        generate_count=min(_PROBE_TILES, settings.sampler.batch_size or _PROBE_TILES),
    )


def _probe_grid(slide: Slide, settings: SynthesisSettings) -> TileGrid:
    """A few tiles side by side: in the middle of a slide, or the first pictures of a tile set."""
    if isinstance(slide, PictureStrip):
        side = slide.side
    else:
        side = level0_tile_px(settings.tiling.tile_px, settings.tiling.mpp, slide.mpp)
    xs = np.arange(0, max(1, slide.width - side + 1), side)[:_PROBE_TILES]
    middle = max(0, (slide.height - side) // 2)
    return TileGrid(
        slide_id=slide.slide_id,
        coords=np.stack([xs, np.full_like(xs, middle)], axis=1).astype(np.int64),
        tile_px=settings.tiling.tile_px,
        tile_px_level0=side,
        mpp=settings.tiling.mpp,
        slide_mpp=slide.mpp,
        width=slide.width,
        height=slide.height,
    )


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
