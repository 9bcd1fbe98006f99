"""k-nearest-neighbour classification of embeddings, as the Thunder benchmark does it.

L2-normalised embeddings, cosine, each of k neighbours has one vote, a tie goes to the lowest
class; k is chosen among `KS` by the macro-F1 of a validation part, of equals the smallest, and
tested once (Marza et al., NeurIPS 2025 Datasets and Benchmarks, arXiv:2507.07860; thunder-bench
0.2.2). Nothing is fitted, so the figure tells of the embeddings and of the labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.evaluation.metrics import balanced_accuracy, macro_f1
from pixcell_share.evaluation.votes import Voters
from pixcell_share.privacy.bootstrap import DRAWS, Resample, share_of
from pixcell_share.privacy.intervals import Estimate

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

KS = (1, 3, 5, 10, 20, 30, 40, 50)
"""Numbers of neighbours that are tried."""


def knn_predict(train: Floats, labels: Ints, test: Floats, k: int) -> Ints:
    """The class of each test tile.

    Args:
        train: (N, D) embeddings; N > 0.
        labels: (N,) classes, numbers from 0.
        test: (M, D)
        k: neighbours that vote; all of them where N is smaller.

    Returns:
        (M,) classes.

    Raises:
        AuditError: an embedding is zero throughout or not finite, or there is none to learn from.
    """
    return _predictions(train, labels, test, (k,))[k]


def choose_k(
    train: Floats,
    labels: Ints,
    validation: Floats,
    validation_labels: Ints,
    ks: Sequence[int] = KS,
) -> int:
    """The k with the best macro-F1 on a validation part; of equals the first, as without any tile.

    Args:
        train: (N, D) embeddings.
        labels: (N,) classes, numbers from 0.
        validation: (V, D) embeddings that are not in ``train``.
        validation_labels: (V,)
        ks: candidates, ascending; those above N are left out, if any is not.

    Raises:
        AuditError: as of `knn_predict`.
    """
    possible = tuple(k for k in ks if k <= len(train)) or tuple(ks[:1])
    found = _predictions(train, labels, validation, possible)
    if not len(validation):
        return possible[0]
    scores = [macro_f1(validation_labels, found[k]) for k in possible]
    return possible[int(np.argmax(scores))]


def balanced_accuracy_by_patient(
    labels: Ints, predicted: Ints, patients: Ints, *, seed: int, draws: int = DRAWS
) -> Estimate:
    """`balanced_accuracy` with its interval, bootstrapped by patient.

    Args:
        labels: (M,) true classes; M > 0.
        predicted: (M,)
        patients: (M,) number of the patient of each tile.
        seed: of the bootstrap.
        draws: of the bootstrap. A draw without any tile of a class is the mean of the others.
    """
    resample = Resample.of(patients, np.random.default_rng(seed), draws)
    drawn = _recalls(labels, predicted, resample)
    return share_of(
        balanced_accuracy(labels, predicted), np.nanmean(drawn, axis=1), resample.patients
    )


def _recalls(labels: Ints, predicted: Ints, resample: Resample) -> NDArray[np.float64]:
    """(D, C): recall of each true class in each draw; NaN where the draw has none of it."""
    columns = []
    for name in np.unique(labels):
        own = labels == name
        count = np.bincount(resample.codes, weights=own, minlength=resample.patients)
        right = np.bincount(
            resample.codes, weights=own & (predicted == name), minlength=resample.patients
        )
        with np.errstate(invalid="ignore"):
            columns.append((resample.counts @ right) / (resample.counts @ count))
    return np.stack(columns, axis=1)


def _predictions(train: Floats, labels: Ints, test: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """(M,) classes for each k, from one search."""
    if not len(train):
        raise AuditError("there is no tile to learn from", "make a cohort first")
    for embeddings in (train, test):
        if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
            raise AuditError(
                "an embedding is zero throughout, or not finite", "use another encoder"
            )
    if not len(test):
        return {k: np.empty(0, np.int64) for k in ks}
    return Voters(train, labels).votes(test, ks)
