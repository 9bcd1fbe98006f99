"""Find tissue on a slide's thumbnail: an Otsu and saturation mask, without glass and pen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from pixcell_share.slides.contours import Mask, Polygon, mask_to_polygons, polygons_to_mask
from pixcell_share.slides.ink import InkSettings, ink_mask
from pixcell_share.slides.quality import is_glass

Image = NDArray[np.uint8]


class _HasThumbnail(Protocol):
    """What `find_tissue` needs of a slide."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def mpp(self) -> float: ...
    def thumbnail(self, max_px: int) -> Image: ...


@dataclass(frozen=True, kw_only=True)
class TissueSettings:
    """How tissue is told from glass. Areas are in µm², whatever the slide's resolution."""

    mpp: float = 4.0
    """Resolution of the thumbnail, µm/px; coarser where ``max_px`` demands it."""

    max_px: int = 2048
    """Longest side of the thumbnail, px."""

    chroma_floor: float = 12.0
    """Least difference between the channels that can be stain, grey levels of 255."""

    chroma_cap: float = 20.0
    """Where Otsu's threshold ends: without it, it would split pale tissue from dark tissue."""

    glass_fraction: float = 0.005
    """With less clear glass than this in view there is no background: all is tissue."""

    min_area_um2: float = 10_000.0
    """Smaller pieces are specks (a tile of 256 px at 0.5 µm/px covers 16,384 µm²)."""

    max_hole_um2: float = 20_000.0
    """Smaller holes are lumina and fat cells: part of the tissue."""

    closing_um: float = 16.0
    """Gaps up to this width are closed, µm."""

    ink: InkSettings = field(default_factory=InkSettings)
    """How pen is found."""


@dataclass(frozen=True, eq=False)
class Tissue:
    """Where the tissue of one slide is."""

    mask: Mask
    """Bool, shape (h, w): True on tissue that is free of pen."""

    width: int
    """Width of the slide, level-0 px."""

    height: int
    """Height of the slide, level-0 px."""

    polygons: tuple[Polygon, ...]
    """Outlines in level-0 pixels, largest first."""

    pen_fraction: float = 0.0
    """Share of the slide that is pen."""

    blank_fraction: float = 0.0
    """Share of the slide that is neither tissue nor pen."""

    @property
    def downsample(self) -> float:
        """Level-0 pixels per mask pixel."""
        return float(self.width / self.mask.shape[1])

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 pixels per mask pixel in x and in y (they differ by rounding)."""
        return self.width / self.mask.shape[1], self.height / self.mask.shape[0]

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean())


def find_tissue(slide: _HasThumbnail, settings: TissueSettings | None = None) -> Tissue:
    """Find the tissue of a slide, pen and glass left out.

    A slide without tissue gives an empty mask; `lay_grid` then raises the error.
    """
    chosen = settings or TissueSettings()
    image = slide.thumbnail(_thumbnail_px(slide, chosen))
    mpp = slide.mpp * slide.width / image.shape[1]
    pen = ink_mask(image, mpp, chosen.ink)
    mask = tissue_mask(image, mpp, chosen, pen)
    scale = slide.width / image.shape[1], slide.height / image.shape[0]
    return Tissue(
        mask=mask,
        width=slide.width,
        height=slide.height,
        polygons=mask_to_polygons(mask, scale),
        pen_fraction=float(pen.mean()),
        blank_fraction=float((~mask & ~pen).mean()),
    )


def tissue_from_polygons(
    polygons: Sequence[Polygon], slide: _HasThumbnail, settings: TissueSettings | None = None
) -> Tissue:
    """Tissue as a person drew it (an edited GeoJSON file); nothing is added or taken away."""
    longest = _thumbnail_px(slide, settings or TissueSettings())
    ratio = longest / max(slide.width, slide.height)
    shape = max(1, round(slide.height * ratio)), max(1, round(slide.width * ratio))
    scale = slide.width / shape[1], slide.height / shape[0]
    mask = polygons_to_mask(polygons, shape, scale)
    return Tissue(
        mask=mask,
        width=slide.width,
        height=slide.height,
        polygons=tuple(polygons),
        blank_fraction=float(1 - mask.mean()),
    )


def tissue_mask(
    image: Image, mpp: float, settings: TissueSettings | None = None, pen: Mask | None = None
) -> Mask:
    """Tissue in ``image``, (H, W, 3) uint8 RGB at ``mpp`` µm/px; bool mask (H, W).

    Stain is what has colour: chroma (largest minus smallest channel, after the glass is made
    white) above Otsu's threshold, which is held between a floor, below which Otsu would split the
    noise of an empty slide, and a cap, above which it would split tissue.
    """
    chosen = settings or TissueSettings()
    pen = ink_mask(image, mpp, chosen.ink) if pen is None else pen
    if is_glass(image).mean() < chosen.glass_fraction:
        stained = np.ones(image.shape[:2], dtype=bool)
    else:
        stained = _stained(image, ~pen, chosen)
    return _tidied(stained & ~pen, mpp, chosen) & ~pen


def _stained(image: Image, countable: Mask, settings: TissueSettings) -> Mask:
    """Pixels with more colour than glass has, (H, W)."""
    glass = np.median(image[is_glass(image)], axis=0)
    white = np.minimum(image.astype(np.float32) * (255 / glass), 255).astype(np.float32)
    smooth = ndimage.gaussian_filter(white, sigma=(1, 1, 0))
    chroma = np.ptp(smooth, axis=-1)
    values = chroma[countable]
    otsu = threshold_otsu(values) if values.size and np.ptp(values) > 0 else settings.chroma_floor
    return np.asarray(chroma > np.clip(otsu, settings.chroma_floor, settings.chroma_cap))


def _tidied(mask: Mask, mpp: float, settings: TissueSettings) -> Mask:
    """``mask`` with narrow gaps closed, small holes filled and small pieces removed."""
    reach = round(settings.closing_um / 2 / mpp)
    if reach:
        padded = np.pad(mask, reach, mode="edge")
        mask = ndimage.binary_closing(padded, iterations=reach)[reach:-reach, reach:-reach]
    mask = remove_small_holes(mask, max_size=int(settings.max_hole_um2 / mpp**2))
    return np.asarray(remove_small_objects(mask, max_size=int(settings.min_area_um2 / mpp**2)))


def _thumbnail_px(slide: _HasThumbnail, settings: TissueSettings) -> int:
    """Longest side of the thumbnail, px: ``settings.mpp``, but never above ``max_px``."""
    longest = max(slide.width, slide.height)
    return max(1, min(settings.max_px, round(longest * slide.mpp / settings.mpp), longest))
