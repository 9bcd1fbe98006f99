"""Figures and intervals against scikit-learn and SciPy, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from pixcell_share.evaluation import METRICS, estimates
from pixcell_share.evaluation.metrics import confusion, scores

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra `peers`")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

THEIRS = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "f1": lambda true, named: sklearn.f1_score(true, named, average="macro"),
    "jaccard": lambda true, named: sklearn.jaccard_score(true, named, average="macro"),
}


def made_up(seed: int, classes: int, tiles: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, tiles)
    other = rng.integers(0, classes + 2, tiles)
    return labels, np.where(rng.random(tiles) < 0.5, labels, other)


@pytest.mark.parametrize("classes", [1, 2, 9, 40])
def test_figures_are_scikit_learns(classes: int) -> None:
    for seed in range(20):
        labels, predicted = made_up(seed, classes, 50)
        found = scores(confusion(labels, predicted))
        assert [theirs(labels, predicted) for theirs in THEIRS.values()] == found.tolist()
    assert tuple(THEIRS) == METRICS


def test_the_interval_is_scipys_on_pairs() -> None:
    labels, predicted = made_up(1, 12, 40)
    found = estimates(labels, predicted, resamples=100)
    for name, metric in THEIRS.items():
        theirs = bootstrap(
            (labels, predicted), metric, n_resamples=100, paired=True, vectorized=False,
            method="percentile", rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        assert (theirs.low, theirs.high) == (found[name].low, found[name].high)


def test_memory_does_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = made_up(2, 5, 33)
    whole = estimates(labels, predicted)
    monkeypatch.setattr("pixcell_share.evaluation.metrics._BATCH_NUMBERS", 33 * 7)
    assert estimates(labels, predicted) == whole


def test_the_interval_covers_a_known_accuracy() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        labels = rng.integers(0, 2, 200)
        predicted = np.where(rng.random(200) < 0.8, labels, 1 - labels)
        found = estimates(labels, predicted, resamples=400)["accuracy"]
        covered += found.low <= 0.8 <= found.high
    assert 85 <= covered < 100
