"""What a synthetic cohort is good for: can a classifier that saw nothing else read real tiles?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.evaluation.frechet import frechet_distance
from pixcell_share.evaluation.knn import balanced_accuracy_by_patient, choose_k, knn_predict
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.sample import Tiles

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

VALIDATION = 0.2
"""Part of the synthetic tiles on which k is chosen."""


@dataclass(frozen=True)
class Utility:
    """Both measures of one cohort, in one encoder."""

    balanced_accuracy: Estimate
    """Of real tiles, by the k nearest synthetic ones; interval by patient. It is to be read beside
    the same with real tiles in place of synthetic ones, and beside 1 / classes."""
    k: int
    """Neighbours that voted."""
    frechet: float
    """Fréchet distance of the synthetic to the real tiles; biased upwards where there are few."""


def cohort_utility(
    synthetic: Floats, synthetic_labels: Ints, real_test: Tiles, *, seed: int
) -> Utility:
    """Train on synthetic tiles, test on real ones.

    k is chosen on a part of the *synthetic* tiles: who receives a cohort has no real tiles to
    choose on, and a k chosen on real ones would claim more than they can reach. Where several
    synthetic tiles come from one real tile this favours a small k, as it would for them.

    Args:
        synthetic: (S, D) embeddings of the cohort.
        synthetic_labels: (S,) their classes, numbers from 0.
        real_test: tiles of patients whose tiles conditioned nothing: holdout patients.
        seed: of the validation part and of the bootstrap.

    Raises:
        AuditError: fewer than two tiles on a side, or an embedding that cannot be used.
    """
    if min(len(synthetic), len(real_test)) < 2:
        raise AuditError(
            f"utility needs tiles on both sides: {len(synthetic)} synthetic, {len(real_test)} real",
            "set holdout patients aside, and keep more tiles",
        )
    kept, validation = _divide(synthetic_labels, seed)
    k = choose_k(
        synthetic[kept], synthetic_labels[kept], synthetic[validation], synthetic_labels[validation]
    )
    predicted = knn_predict(synthetic, synthetic_labels, real_test.embeddings, k)
    accuracy = balanced_accuracy_by_patient(
        real_test.labels, predicted, real_test.patients, seed=seed
    )
    return Utility(accuracy, k, frechet_distance(synthetic, real_test.embeddings))


def _divide(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Rows to learn from, and `VALIDATION` of each class; one tile of a class is kept at least."""
    rng = np.random.default_rng(seed)
    kept, validation = [], []
    for name in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == name))
        count = min(round(VALIDATION * len(rows)), len(rows) - 1)
        validation.append(rows[:count])
        kept.append(rows[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(validation))
