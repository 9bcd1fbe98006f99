"""Distances that several attacks ask for: Euclidean, exact, never a full matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.privacy.neighbours import nearest
from pixcell_share.privacy.sample import AuditSample, Floats, Ints

Values = NDArray[np.float64]


def to_nearest(queries: Floats, rows: Floats) -> tuple[Values, Ints]:
    """Distance (Q,) of each query to its nearest row, and the number of that row."""
    found = nearest(queries, rows, 1, metric="euclidean")
    return found.distances[:, 0].astype(np.float64), found.indices[:, 0]


def to_nearest_other(
    queries: Floats, groups: Ints, rows: Floats, row_groups: Ints
) -> tuple[Values, Ints]:
    """As `to_nearest`, among rows of other groups; inf and -1 where there are none."""
    found = nearest(
        queries, rows, 1, metric="euclidean", query_groups=groups, row_groups=row_groups
    )
    return found.distances[:, 0].astype(np.float64), found.indices[:, 0]


def source_patients(sample: AuditSample) -> Ints:
    """(S,) the unit each synthetic tile is drawn with: the patient of its first source.

    Tiles made from several patients follow the first of them. Where no source is known, each tile
    is a unit of its own.
    """
    if sample.sources is None:
        return np.arange(len(sample.synthetic), dtype=np.int64)
    units: Ints = sample.conditioning.patients[sample.sources[:, 0]]
    return units


def require(sample: AuditSample, what: str) -> None:
    """Refuse a sample in which a comparison with patients set aside is void.

    Raises:
        AuditError: no synthetic tile, no conditioning tile, or no holdout patient.
    """
    if not len(sample.synthetic) or not len(sample.conditioning):
        raise AuditError(f"no tile for {what}", "make more tiles before the audit")
    if not len(sample.holdout):
        raise AuditError(f"no holdout patient for {what}", "raise --holdout, or add patients")
