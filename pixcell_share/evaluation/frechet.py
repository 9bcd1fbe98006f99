"""The Fréchet distance between two samples of embeddings.

``|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½)`` for the Gaussians fitted to the samples (Dowson &
Landau, J. Multivariate Analysis 12, 1982; as Heusel et al., arXiv:1706.08500, use it). The units
are those of the embeddings, squared.

**Small samples bias it upwards**: two samples of one and the same distribution are ``2 tr(S) / n``
apart by their means alone, and more by their covariances (Chong & Forsyth, CVPR 2020,
arXiv:1911.07023). A figure means something only beside that of two real samples of the same
sizes, and with fewer tiles than dimensions not even the order of two figures is certain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from pixcell_share.errors import AuditError

Floats = NDArray[np.floating[Any]]


def frechet_distance(first: Floats, second: Floats, *, ridge: float = 0.0) -> float:
    """The squared 2-Wasserstein distance of the two fitted Gaussians.

    The trace of ``(S1 S2)^½`` is the nuclear norm of ``A Bᵀ`` for any ``S1 = AᵀA``, ``S2 = BᵀB``.
    So no covariance is formed and no root of a matrix is taken, and singular covariances (fewer
    tiles than dimensions) are no special case.

    Args:
        first: (N, D), N > 1.
        second: (M, D), M > 1.
        ridge: variance added to every direction of both covariances. It does not take the bias
            away; it only keeps directions without any spread from counting as perfectly alike.

    Raises:
        AuditError: a sample of fewer than two tiles, or a number that is not finite.
    """
    one, two = (np.asarray(sample, np.float64) for sample in (first, second))
    for sample in (one, two):
        if len(sample) < 2 or not np.isfinite(sample).all():
            raise AuditError(
                f"a Fréchet distance of {len(sample)} tiles cannot be computed",
                "give at least two tiles a side, with finite embeddings",
            )
    gap = one.mean(axis=0) - two.mean(axis=0)
    a, b = _factor(one, ridge), _factor(two, ridge)
    shared = linalg.svdvals(a @ b.T).sum()
    total = gap @ gap + (a * a).sum() + (b * b).sum() - 2 * shared
    return float(max(total, 0.0))  # equal samples may round to a little below zero


def _factor(sample: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """(r, D) with ``AᵀA`` the unbiased covariance plus the ridge; r is at most D."""
    centred: NDArray[np.float64] = (sample - sample.mean(axis=0)) / np.sqrt(len(sample) - 1)
    if ridge:
        centred = np.concatenate([centred, np.sqrt(ridge) * np.eye(sample.shape[1])])
    if len(centred) <= centred.shape[1]:
        return centred
    reduced: NDArray[np.float64] = linalg.qr(centred, mode="r")[0][: centred.shape[1]]
    return reduced
