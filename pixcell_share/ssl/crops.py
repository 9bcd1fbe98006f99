"""Multi-crop views of a tile, as DINOv2 draws them.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/data/augmentations.py``: torchvision's
operations with parameters drawn here. There the probabilities of the blur are turned round on
their way to torchvision; here they are the paper's. The blur is PIL's Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torchvision.transforms import functional as F

from pixcell_share.errors import SettingsError
from pixcell_share.training.batches import turn_square

Pixels = NDArray[np.uint8]
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10
"""Both as in torchvision's ``RandomResizedCrop``."""


@dataclass(frozen=True)
class ColourSettings:
    """How colours and sharpness of a crop are changed."""

    jitter: float = 0.8
    """Probability of changing brightness, contrast, saturation and hue, in any order."""
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    """Each factor is drawn from 1 - x to 1 + x."""
    hue: float = 0.1
    """Shift, in turns of the colour circle, from -x to x."""
    grey: float = 0.2
    """Probability of a grey image."""
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)
    """Probability of a blur: first global crop, second, local crops."""
    blur_px: tuple[float, float] = (0.1, 2.0)
    """Least and largest deviation of the blur."""
    solarize: float = 0.2
    """Probability of turning bright values round, in the second global crop alone."""


@dataclass(frozen=True)
class CropSettings:
    """The crops of a tile.

    Raises:
        SettingsError: a number is out of range.
    """

    global_px: int = 224
    """Side of the two global crops."""
    global_scale: tuple[float, float] = (0.32, 1.0)
    """Their share of the tile's area."""
    local_px: int = 98
    """Side of the local crops. DINOv2's 96 for patches of 16 px; 98 for patches of 14."""
    local_scale: tuple[float, float] = (0.05, 0.32)
    """Their share of the tile's area."""
    locals: int = 8
    """Local crops of a tile; 0 for none."""
    turn: bool = False
    """Any of the eight symmetries of the square, as tissue has no upside; else flipped alone."""
    colour: ColourSettings = ColourSettings()

    def __post_init__(self) -> None:
        for low, high in (self.global_scale, self.local_scale):
            if not 0 < low <= high <= 1:
                raise SettingsError(
                    f"a crop's share of the tile is {low} to {high}", "use shares in (0, 1]"
                )
        if self.locals < 0 or min(self.global_px, self.local_px) < 1:
            raise SettingsError("crops need a size and a number", "use 8 of 98 px, as DINOv2")


def crops_of(
    tile: Pixels, settings: CropSettings, draw: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """The crops of one tile.

    Args:
        tile: uint8 (H, W, 3).
        settings: of the crops.
        draw: where the numbers come from.

    Returns:
        Global crops uint8 (2, 3, S, S) and local crops (L, 3, s, s).
    """
    image = Image.fromarray(tile)
    colour, blur = settings.colour, settings.colour.blur
    big = [
        _crop(image, settings.global_px, settings.global_scale, settings.turn, colour, draw,
              blur=blur[number], solarize=colour.solarize * number)
        for number in range(2)
    ]  # fmt: skip
    small = [
        _crop(image, settings.local_px, settings.local_scale, settings.turn, colour, draw,
              blur=blur[2], solarize=0.0)
        for _ in range(settings.locals)
    ]  # fmt: skip
    none = np.empty((0, 3, settings.local_px, settings.local_px), np.uint8)
    return np.stack(big), np.stack(small) if small else none


def _crop(
    image: Image.Image,
    side: int,
    scale: tuple[float, float],
    turn: bool,
    colour: ColourSettings,
    draw: np.random.Generator,
    *,
    blur: float,
    solarize: float,
) -> Pixels:
    """One crop (3, side, side)."""
    left, top, width, height = place(image.width, image.height, scale, draw)
    crop = image.crop((left, top, left + width, top + height))
    crop = crop.resize((side, side), Image.Resampling.BICUBIC)
    crop = _recolour(crop, colour, draw)
    if draw.random() < blur:
        crop = crop.filter(ImageFilter.GaussianBlur(draw.uniform(*colour.blur_px)))
    if draw.random() < solarize:
        crop = F.solarize(crop, 128)
    # Flipped: code 0 or 4 of the eight symmetries.
    code = int(draw.integers(8)) if turn else 4 * int(draw.integers(2))
    turned: Pixels = turn_square(np.asarray(crop), code, axes=(0, 1))  # type: ignore[assignment]
    return np.ascontiguousarray(turned.transpose(2, 0, 1))


def place(
    width: int, height: int, scale: tuple[float, float], draw: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random crop, as torchvision's ``RandomResizedCrop``."""
    for _ in range(_TRIES):
        area = width * height * draw.uniform(*scale)
        aspect = math.exp(draw.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = draw.integers(0, width - w + 1), draw.integers(0, height - h + 1)
            return int(left), int(top), w, h
    # A long strip: its middle, as wide or high as the aspect allows.
    w, h = min(width, round(height * _ASPECT[1])), min(height, round(width / _ASPECT[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def _recolour(
    crop: Image.Image, settings: ColourSettings, draw: np.random.Generator
) -> Image.Image:
    if draw.random() < settings.jitter:
        strengths = (settings.brightness, settings.contrast, settings.saturation)
        factors = [draw.uniform(max(0.0, 1 - x), 1 + x) for x in strengths]
        factors.append(draw.uniform(-settings.hue, settings.hue))
        change = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        for which in draw.permutation(4):
            crop = change[which](crop, factors[which])
    if draw.random() < settings.grey:
        crop = F.to_grayscale(crop, num_output_channels=3)
    return crop
