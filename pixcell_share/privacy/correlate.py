"""The pixel comparison that decides: correlation of two pictures over small shifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.feature import match_template

from pixcell_share.privacy.fingerprints import (
    DETAIL,
    TRANSFORMS,
    Images,
    structure,
    transform,
)

Floats = NDArray[np.float32]


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
    return fade * float(np.clip(match_template(other, middle).max(), -1.0, 1.0))


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
