"""The tests on copies: none is released, and the check would have noticed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles.audit import AuditTest
from pixcell_share.privacy.control import ControlResult

Scores = NDArray[np.floating]


def planted_test(control: ControlResult) -> AuditTest:
    """Whether the planted copies of this run were caught."""
    return AuditTest("planted_copies", control.valid, control.figures(), control.limits())


def nearest_test(name: str, scores: Scores, limit: float) -> AuditTest:
    """Whether no tile to be released is a near copy.

    Args:
        name: of the test.
        scores: (N,) of every tile of the bundle with its nearest real tile.
        limit: score from which a tile is a near copy.

    Raises:
        ValueError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError(f"{name}: a score is not finite")
    near_copies = int((scores >= limit).sum())
    return AuditTest(
        name=name,
        passed=len(scores) > 0 and near_copies == 0,
        figures={
            "tiles": len(scores),
            "near_copies": near_copies,
            "median": round(float(np.median(scores)), 6) if len(scores) else 0.0,
        },
        limit={"near_copies": 0, "score": limit},
    )
