"""Tell a usable picture of stained tissue from glass, blur, and what is not brightfield.

Three questions on a tile and one on a whole slide; each is a few array operations, because they
are asked of every tile of every slide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from pixcell_share.errors import NotBrightfieldError

Image = NDArray[np.uint8]

SHARPNESS_MPP = 1.0
"""Resolution at which `sharpness` is calibrated, µm/px."""

SHARPNESS_LIMIT = 0.105
"""A tile less sharp than this is out of focus. H&E in focus measures 0.125 to 0.45 at 1 µm/px;
the same tiles blurred with sigma 2 µm measure 0.065 to 0.105 (shared data, 700 tiles)."""

GLASS_LEVEL = 180
"""Every channel of a pixel of clear glass is at least this bright."""

GLASS_CHROMA = 25
"""Largest difference between the channels of a pixel of clear glass."""


def require_brightfield(thumbnail: Image, slide_id: str) -> None:
    """Accept a stained section seen in transmitted light, refuse anything else.

    Transmitted light is bright where nothing absorbs, and no stain of routine histology leaves
    green as the brightest channel. Fluorescence has a dark ground and pure colours; a negative
    has a dark ground or green tissue.

    Args:
        thumbnail: uint8 RGB, shape (H, W, 3), of the whole slide.
        slide_id: name for the message.

    Raises:
        NotBrightfieldError: dark ground, pure colours, or the colours of a negative.
    """
    reason = _not_brightfield_reason(thumbnail)
    if reason:
        raise NotBrightfieldError(
            f"slide {slide_id} is not a stained section in transmitted light: {reason}",
            "leave it out: only brightfield H&E slides can be synthesised",
        )


def _not_brightfield_reason(thumbnail: Image) -> str:
    """Why the picture cannot be brightfield, or an empty string."""
    brightest = thumbnail.max(axis=-1)
    lit = thumbnail[brightest >= 40]
    if np.mean(is_glass(thumbnail)) >= 0.02 and len(lit) >= 0.2 * brightest.size:
        return ""  # clear glass, and dark parts no larger than unscanned borders can be
    if len(lit) < 0.5 * brightest.size:
        return f"{1 - len(lit) / brightest.size:.0%} of it is dark"
    if np.percentile(brightest, 99) < 100:
        return "it is dark throughout"
    span = np.ptp(lit, axis=-1) / lit.max(axis=-1)
    if np.median(span) > 0.85:
        return "its colours are those of single fluorescent dyes"
    red, green, blue = lit.mean(axis=0)
    if green > max(red, blue) + 10:
        return "its colours are those of a negative"
    return ""


def is_glass(image: Image) -> NDArray[np.bool_]:
    """Where ``image`` (H, W, 3) shows clear glass: bright and without colour; shape (H, W)."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    darkest = np.minimum(np.minimum(red, green), blue)
    brightest = np.maximum(np.maximum(red, green), blue)
    return (darkest >= GLASS_LEVEL) & (brightest - darkest <= GLASS_CHROMA)


def edge_strength(tile: Image) -> float:
    """DS-MIL's measure of tissue in a tile: how many edges it has.

    Li et al., CVPR 2021, ``deepzoom_tiler.py``: Pillow's ``FIND_EDGES``, summed over the tile,
    averaged over the channels, divided by the tile's area. A tile is kept above 15 at 20x
    (0.5 µm/px). Pillow copies the outermost pixels unfiltered; so does the paper, and an empty
    white tile of 256 px therefore measures 4. The arithmetic is done here in 16-bit integers, with
    Pillow's result, because Pillow's own takes longer than decoding the tile.

    Args:
        tile: uint8 RGB, shape (T, T, 3).

    Returns:
        Grey levels per pixel.
    """
    height, width, channels = tile.shape
    flat = tile.reshape(height, width * channels)
    wide = flat.astype(np.int16)  # 9 * 255 fits; neighbours across are 3 values apart
    down = wide[:-2] + wide[1:-1]
    down += wide[2:]
    window = down[:, : -2 * channels] + down[:, channels:-channels]
    window += down[:, 2 * channels :]
    edges = 9 * wide[1:-1, channels:-channels]
    edges -= window
    np.clip(edges, 0, 255, out=edges)
    ring = int(flat.sum(dtype=np.uint32)) - int(flat[1:-1, channels:-channels].sum(dtype=np.uint32))
    total = int(edges.astype(np.uint8).sum(dtype=np.uint32)) + ring
    return float(total / channels / (height * width))


def sharpness(tile: PilImage.Image, mpp: float) -> float:
    """How much of the contrast over 4 µm is already there over 1 µm.

    The ratio of the mean squared grey difference at a lag of one pixel to that at four pixels, at
    1 µm/px. It does not change with stain or contrast. It is 1/16 where the picture is smooth at
    this scale, which is what defocus makes of it, and near 1 for noise (so ask for blank first).

    Args:
        tile: an RGB picture.
        mpp: µm per pixel of ``tile``.

    Returns:
        A ratio; out of focus below `SHARPNESS_LIMIT`.
    """
    grey = tile.convert("L")
    factor = max(1, round(SHARPNESS_MPP / mpp))
    levels = np.asarray(grey.reduce(factor) if factor > 1 else grey).astype(np.float32)
    return _variogram(levels, 1) / max(_variogram(levels, 4), 1.0)


def _variogram(levels: NDArray[np.float32], lag: int) -> float:
    """Mean squared difference of ``levels`` (H, W) at ``lag`` pixels, down plus across."""
    down = (levels[lag:] - levels[:-lag]).ravel()
    across = (levels[:, lag:] - levels[:, :-lag]).ravel()
    return float(np.dot(down, down) / down.size + np.dot(across, across) / across.size)
