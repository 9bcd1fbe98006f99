"""The verdict of the first checks: no near copy is released, and the check would have noticed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.privacy.control import ControlResult
from pixcell_share.privacy.near_copies import NearCopySettings

Scores = NDArray[np.floating]


def first_checks(
    pixel_ncc: Scores,
    embedding_similarity: Scores,
    control: ControlResult,
    settings: NearCopySettings,
) -> AuditResult:
    """Judge the tiles that are to be released.

    Args:
        pixel_ncc: (N,) score in pixels of every tile of the bundle: `Nearest.pixel_ncc`.
        embedding_similarity: (N,) its score in the encoder: `Nearest.embedding_similarity`.
        control: what the planted copies of this run showed, and its limit in the encoder.
        settings: the site's limits.

    Returns:
        ``INVALID`` where too few planted copies were caught; else ``REFUSE`` where a tile reaches
        a limit, or there is no tile; else ``PASS``. Its figures are public: counts and medians,
        never the score of one tile.

    Raises:
        ValueError: a score is not finite.
    """
    tests = (
        _planted(control),
        _nearest("near_copies_in_pixels", pixel_ncc, settings.pixel_limit),
        _nearest("near_copies_in_encoder", embedding_similarity, control.encoder_limit),
    )
    if not control.valid:
        return AuditResult("INVALID", tests)
    return AuditResult("PASS" if all(test.passed for test in tests) else "REFUSE", tests)


def _planted(control: ControlResult) -> AuditTest:
    low, high = control.caught.interval
    return AuditTest(
        name="planted_copies",
        passed=control.valid,
        figures={
            "planted": control.caught.total,
            "caught": control.caught.count,
            "caught_by_encoder": sum(kind.by_encoder.count for kind in control.kinds),
            "interval_low": round(low, 6),
            "interval_high": round(high, 6),
        },
        limit={"share": control.required},
    )


def _nearest(name: str, scores: Scores, limit: float) -> AuditTest:
    """``limit`` is the score from which a tile is a near copy; ``near_copies`` must be none."""
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
