"""How fast is the correlation that decides near copies, beside scikit-image's `match_template`?

- pictures and parts of the sizes that a search compares: 56 in 64 for whole tiles, 44 to 60 in 64
  for parts of them; equal scores.
- turn by turn in one process, one thread, the median of each.

    OMP_NUM_THREADS=1 python benchmarks/correlation.py

Writes benchmarks/results/correlation_<machine>.json.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _results import write_result
from scipy.ndimage import gaussian_filter
from skimage.feature import match_template

from pixcell_share.privacy.correlate import Floats, correlations
from pixcell_share.privacy.fingerprints import DETAIL

_PARTS = (44, 52, 56, 60)
_ROUNDS, _CALLS = 15, 50


def main() -> None:
    """Measure each size."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for side in _PARTS:
        picture = gaussian_filter(rng.normal(size=(DETAIL.side, DETAIL.side)), 1.5)
        picture = picture.astype(np.float32)
        part = picture[:side, :side] + 0.3 * rng.normal(size=(side, side))
        found[str(side)] = compared(picture, part.astype(np.float32))
        print(f"{side} px in {DETAIL.side}: {found[str(side)]}")
    print(write_result("correlation", {"parts": found}, ("numpy", "scipy", "scikit-image")))


def compared(picture: Floats, part: Floats) -> dict[str, float]:
    """Both, turn by turn; milliseconds a call."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(_ROUNDS):
        theirs.append(milliseconds(match_template, picture, part))
        ours.append(milliseconds(correlations, picture, part))
    far = np.abs(correlations(picture, part) - match_template(picture, part)).max()
    return {
        "ours_ms": round(statistics.median(ours), 4),
        "scikit_image_ms": round(statistics.median(theirs), 4),
        "scikit_image_over_ours": round(statistics.median(theirs) / statistics.median(ours), 2),
        "greatest_difference": float(f"{far:.1e}"),
    }


def milliseconds(correlate: Callable[..., Floats], picture: Floats, part: Floats) -> float:
    """Of one call, over some."""
    began = time.perf_counter()
    for _ in range(_CALLS):
        correlate(picture, part)
    return (time.perf_counter() - began) / _CALLS * 1e3


if __name__ == "__main__":
    main()
