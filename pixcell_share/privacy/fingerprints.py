"""Small grey pictures of tiles, made so that a dot product is a normalised cross-correlation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

COARSE_PX = 16
"""Side of a fingerprint in pixels: at 256 px and 0.5 µm/px one pixel covers 8 µm, a nucleus."""

DETAIL_PX = 64
"""Side of the picture that decides: at 256 px and 0.5 µm/px one pixel covers 2 µm."""

CONTRAST_FLOOR = 3.0
"""Standard deviation in grey levels (0 to 255) below which a picture counts as featureless.

Correlation divides by the standard deviation, so on blank glass it compares noise with noise. The
division uses ``max(deviation, CONTRAST_FLOOR)`` instead: below the floor the score fades to zero.
"""

# ITU-R BT.601 luma, the grey of JPEG: what a recompressed copy keeps best.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

TRANSFORMS: tuple[str, ...] = (
    "identity",
    "rotate 90",
    "rotate 180",
    "rotate 270",
    "flip",
    "flip, rotate 90",
    "flip, rotate 180",
    "flip, rotate 270",
)
"""The eight flips and rotations of a square, in the order that `transform` takes."""


def transform(image: NDArray[np.generic], index: int) -> NDArray[np.generic]:
    """One of the eight flips and rotations.

    Args:
        image: (S, S) or (S, S, C).
        index: position in `TRANSFORMS`; the flip is left to right and comes first.

    Returns:
        A view of the same shape.
    """
    flipped = image[:, ::-1] if index >= 4 else image
    return np.rot90(flipped, index % 4)


def reduce_grey(images: Images, side: int) -> Floats:
    """Average tiles over areas down to small grey pictures.

    Args:
        images: (B, H, W, 3) RGB.
        side: side of the result in pixels, at most H and W.

    Returns:
        (B, side, side) luma, 0 to 255. It commutes with the eight flips and rotations.
    """
    rows = _area_weights(images.shape[1], side)
    columns = _area_weights(images.shape[2], side)
    grey = images.astype(np.float32) @ _LUMA
    reduced: Floats = rows @ grey @ columns.T
    return reduced


def standardise(pictures: Floats) -> Floats:
    """Remove the mean of each picture and scale it to norm 1, or less where it is featureless.

    Args:
        pictures: (B, S, S) grey levels.

    Returns:
        (B, S * S): the dot product of two rows is their normalised cross-correlation, faded as
        `CONTRAST_FLOOR` says.
    """
    flat = pictures.reshape(len(pictures), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    scale = np.maximum(deviation, CONTRAST_FLOOR) * np.sqrt(np.float32(flat.shape[1]))
    standard: Floats = (centred / scale).astype(np.float32, copy=False)
    return standard


def fingerprint(images: Images) -> Floats:
    """Fingerprints of tiles: `COARSE_PX` squared grey levels, standardised.

    Args:
        images: (B, H, W, 3) RGB, H and W at least `COARSE_PX`.

    Returns:
        (B, `COARSE_PX`²).
    """
    return standardise(reduce_grey(images, COARSE_PX))


def variants(fingerprints: Floats) -> Floats:
    """The fingerprints that the eight flips and rotations of the same tiles have.

    Args:
        fingerprints: (B, F).

    Returns:
        (B, 8, F), in the order of `TRANSFORMS`.
    """
    return fingerprints[:, _permutations(fingerprints.shape[1])]


@lru_cache(maxsize=8)
def _permutations(length: int) -> NDArray[np.intp]:
    """(8, F): where each pixel of a transformed fingerprint comes from."""
    side = int(np.sqrt(length))
    places = np.arange(length).reshape(side, side)
    return np.stack([transform(places, index).reshape(-1) for index in range(8)])


@lru_cache(maxsize=32)
def _area_weights(length: int, side: int) -> Floats:
    """(side, length): row i holds the share of each source pixel in the i-th equal part."""
    edges = np.linspace(0.0, length, side + 1)
    starts = np.arange(length)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    weights: Floats = (np.clip(overlap, 0.0, None) * side / length).astype(np.float32)
    return weights
