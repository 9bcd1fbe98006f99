"""The pixel comparison that decides: correlation of two pictures over small shifts."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixcell_share.privacy.fingerprints import (
    DETAIL,
    TRANSFORMS,
    Images,
    structure,
    transform,
)

Floats = NDArray[np.float32]
_NOTHING = 1e-6
"""Product of two norms that is rounding only."""


def shifted_correlation(picture: Floats, other: Floats, shift: int) -> float:
    """Highest normalised cross-correlation of the middle of ``picture`` with ``other``.

    Args:
        picture: (S, S), as `structure` gives it at `DETAIL`; a frame of ``shift`` pixels is cut
            off it.
        other: (S, S), where the rest is searched.
        shift: largest shift in pixels, in each direction.

    Returns:
        -1 to 1, faded to 0 where either picture is featureless (`Scale.floor`).
    """
    middle = picture[shift:-shift, shift:-shift] if shift else picture
    fade = min(1.0, float(middle.std()) / DETAIL.floor, float(other.std()) / DETAIL.floor)
    if fade == 0.0:
        return 0.0
    return fade * float(np.clip(correlations(other, middle).max(), -1.0, 1.0))


def correlations(picture: Floats, part: Floats) -> Floats:
    """Normalised cross-correlation of ``part`` with every place of ``picture`` that holds it.

    What scikit-image's ``match_template`` gives, as one matrix product: for so few places that is
    2 to 7 times as fast as its Fourier transforms (benchmarks/correlation.py), which took about
    half of a search.

    Args:
        picture: (H, W).
        part: (h, w), not larger.

    Returns:
        (H - h + 1, W - w + 1), -1 to 1; 0 where the picture has no structure.
    """
    height, width = part.shape
    part = part - part.mean(dtype=np.float64)
    products = sliding_window_view(picture, (height, width)).reshape(-1, part.size)
    found = (products @ part.astype(np.float32).ravel()).astype(np.float64)
    sums = np.zeros((2, picture.shape[0] + 1, picture.shape[1] + 1))
    sums[:, 1:, 1:] = np.stack([picture, picture * picture]).cumsum(1, np.float64).cumsum(2)
    sums = sums[:, height:] - sums[:, :-height]
    plain, squared = sums[:, :, width:] - sums[:, :, :-width]
    spread = np.maximum(squared - plain * plain / part.size, 0.0) * np.sum(part * part)
    norms = np.sqrt(spread)
    scores: NDArray[np.float64] = np.zeros_like(norms)
    np.divide(found.reshape(norms.shape), norms, out=scores, where=norms > _NOTHING)
    return scores.astype(np.float32)


def aligned(image: Images, other: Images, shift: int = 4) -> tuple[Images, str]:
    """Turn ``image`` as it lies best on ``other``, for a person to compare them.

    Args:
        image: (H, W, 3).
        other: (H, W, 3).
        shift: as in `shifted_correlation`.

    Returns:
        The turned image and the name of the turn, one of `TRANSFORMS`.
    """
    small, fixed = (structure(picture[None], DETAIL)[0] for picture in (image, other))
    scores = [
        shifted_correlation(transform(small, turn).astype(np.float32), fixed, shift)
        for turn in range(len(TRANSFORMS))
    ]
    best = int(np.argmax(scores))
    return transform(image, best).astype(np.uint8), TRANSFORMS[best]
