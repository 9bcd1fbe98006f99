"""Copies of real tiles, made on purpose: what the checks must catch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import hed2rgb, rgb2hed

from pixcell_share.privacy.fingerprints import Images, transform

Plant = Callable[[Images, np.random.Generator], Images]
"""Makes a copy (H, W, 3) of a real tile (H, W, 3)."""


def _exact(tile: Images, rng: np.random.Generator) -> Images:
    return tile.copy()


def _flipped(tile: Images, rng: np.random.Generator) -> Images:
    return _turned(tile, int(rng.choice([4, 6])))


def _rotated(tile: Images, rng: np.random.Generator) -> Images:
    return _turned(tile, int(rng.integers(1, 4)))


def _turned(tile: Images, index: int) -> Images:
    return np.ascontiguousarray(transform(tile, index)).astype(np.uint8)


def _jpeg(tile: Images, rng: np.random.Generator) -> Images:
    packed = io.BytesIO()
    Image.fromarray(tile).save(packed, "JPEG", quality=60)
    return np.asarray(Image.open(packed).convert("RGB"))


def _brightened(tile: Images, rng: np.random.Generator) -> Images:
    """Gain 0.8 to 1.2 and offset of up to 15 grey levels."""
    return _as_bytes(tile * rng.uniform(0.8, 1.2) + rng.uniform(-15.0, 15.0))


def _restained(tile: Images, rng: np.random.Generator) -> Images:
    """Haematoxylin and eosin each scaled by 0.75 to 1.25 (Ruifrok's stain separation)."""
    stains = rgb2hed(tile)
    stains[..., :2] *= rng.uniform(0.75, 1.25, size=2)
    return _as_bytes(hed2rgb(stains) * 255.0)


def _blurred(tile: Images, rng: np.random.Generator) -> Images:
    return _as_bytes(gaussian_filter(tile.astype(np.float64), sigma=(1.0, 1.0, 0.0)))


def _shifted(tile: Images, rng: np.random.Generator) -> Images:
    """Moved by up to 3 % of the side each way; the uncovered edge is mirrored."""
    reach = max(1, tile.shape[0] * 3 // 100)
    down, right = rng.integers(0, 2 * reach + 1, size=2)
    padded: Images = np.pad(tile, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows, columns = slice(down, down + tile.shape[0]), slice(right, right + tile.shape[1])
    moved: Images = padded[rows, columns]
    return moved


def blend(tile: Images, other: Images, share: float) -> Images:
    """A mixture (H, W, 3) of two tiles, pixel by pixel: ``share`` of ``tile``, the rest of
    ``other``, which is resized to it where it has another size."""
    if other.shape != tile.shape:
        other = _resized(other, tile.shape[:2])
    return _as_bytes(share * tile.astype(np.float64) + (1 - share) * other.astype(np.float64))


def crop(tile: Images, share: float, rng: np.random.Generator) -> Images:
    """A part of a tile, at a random place, resized to the whole tile's size.

    Args:
        tile: (H, W, 3).
        share: side of the part as a share of the tile's.
        rng: chooses the place.
    """
    height, width = (max(1, round(side * share)) for side in tile.shape[:2])
    top = int(rng.integers(0, tile.shape[0] - height + 1))
    left = int(rng.integers(0, tile.shape[1] - width + 1))
    return _resized(tile[top : top + height, left : left + width], tile.shape[:2])


def _resized(tile: Images, size: tuple[int, ...]) -> Images:
    wanted = size[1], size[0]
    return np.asarray(Image.fromarray(tile).resize(wanted, Image.Resampling.BICUBIC))


def _as_bytes(values: NDArray[np.floating]) -> Images:
    rounded: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


PLANTS: Mapping[str, Plant] = MappingProxyType(
    {
        "exact": _exact,
        "flipped": _flipped,
        "rotated": _rotated,
        "JPEG 60": _jpeg,
        "brightness": _brightened,
        "re-stained": _restained,
        "blurred": _blurred,
        "shifted": _shifted,
    }
)
"""Kinds of planted copies by name."""

BLENDS: Mapping[str, float] = MappingProxyType({"blend 10": 0.1, "blend 30": 0.3, "blend 50": 0.5})
"""Mixtures of a real tile with another tile: the real tile's share by name."""

CROPS: Mapping[str, float] = MappingProxyType(
    {"crop 0.95": 0.95, "crop 0.85": 0.85, "crop 0.75": 0.75, "crop 0.6": 0.6}
)
"""Parts of a real tile, enlarged: their side as a share of the tile's by name."""
