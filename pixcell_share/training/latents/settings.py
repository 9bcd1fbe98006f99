"""Everything that a person can set for `pixcell-train latents`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents.entries import RegionSource
from pixcell_share.training.latents.models import CoderSettings
from pixcell_share.training.latents.picture_source import PictureSource
from pixcell_share.training.latents.slide_source import SlideSource
from pixcell_share.training.latents.split import Holdout

REGION_PX = (1024, 512, 256)
"""Sides of the three stages' images, and of the regions that serve them."""


@dataclass(frozen=True, kw_only=True)
class LatentSettings:
    """One store to make."""

    out: Path
    """Folder of the store."""
    coder: CoderSettings
    """VAE and encoder."""
    slides: Path | None = None
    """Folder of slides; either this or ``regions``."""
    regions: Path | None = None
    """Folder of pictures that are regions."""
    table: Path | None = None
    """slides.csv or regions.csv."""
    region_px: int = 1024
    """Side of a region: 1024, 512 or 256."""
    mpp: float | None = None
    """Resolution in µm/px; None is 0.5 for slides, and unknown for pictures."""
    slide_mpp: float | None = None
    """µm/px of level 0, for slides that do not carry it."""
    overlap_px: int = 0
    """How far neighbouring regions of a slide overlap, in pixels of a region."""
    resize: bool = False
    """Resize pictures of another size."""
    holdout: Holdout = Holdout()
    """What is kept from training."""
    shard_mb: float = 2048
    """Size of a shard in MiB."""
    limit: int | None = None
    """At most this many regions in all, for a trial."""
    turns: int = 1
    """Orientations stored of each region."""
    batch_size: int | None = None
    """Regions encoded together; None fits the device."""

    def __post_init__(self) -> None:
        """Refuse what cannot work before a model is loaded."""
        if (self.slides is None) == (self.regions is None):
            raise SettingsError(
                "the latents come from slides or from pictures", "give either --slides or --regions"
            )
        if self.region_px not in REGION_PX:
            raise SettingsError(
                f"--region-px {self.region_px} is no stage's size",
                f"use one of {', '.join(map(str, REGION_PX))}",
            )
        if not 1 <= self.turns <= 8:
            raise SettingsError(f"--turns {self.turns} is not 1 to 8", "there are 8 orientations")
        if min(self.batch_size or 1, self.limit or 1) < 1 or 0 in (self.batch_size, self.limit):
            raise SettingsError("--batch-size and --limit start at 1", "leave it out for all")
        if self.resize and self.slides is not None:
            raise SettingsError("--resize is for pictures", "slides are read at --mpp")


def open_source(settings: LatentSettings) -> RegionSource:
    """The slides or pictures of a run."""
    if settings.slides is not None:
        return SlideSource(
            settings.slides,
            settings.table,
            region_px=settings.region_px,
            mpp=settings.mpp or 0.5,
            slide_mpp=settings.slide_mpp,
            overlap_px=settings.overlap_px,
        )
    assert settings.regions is not None
    return PictureSource(
        settings.regions,
        settings.table,
        region_px=settings.region_px,
        mpp=settings.mpp,
        resize=settings.resize,
    )
