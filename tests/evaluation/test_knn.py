"""k-NN against scikit-learn, and its interval against repetition."""

from __future__ import annotations

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.evaluation import (
    KS,
    balanced_accuracy,
    balanced_accuracy_by_patient,
    choose_k,
    knn_predict,
    macro_f1,
)

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is in the extra `peers`")
from sklearn.metrics import balanced_accuracy_score, f1_score  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402


def tiles(seed: int, count: int, classes: int = 4, dim: int = 16, spread: float = 1.5):
    """Embeddings that overlap between classes of unequal sizes, and lengths that tell nothing."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    labels = rng.choice(classes, size=count, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    embeddings = centres[labels] + spread * rng.normal(size=(count, dim))
    return (embeddings * rng.uniform(0.1, 10, (count, 1))).astype(np.float32), labels


@pytest.mark.parametrize("k", KS)
def test_predictions_are_those_of_scikit_learn(k: int) -> None:
    (train, labels), (test, _) = tiles(0, 300), tiles(1, 200)
    theirs = KNeighborsClassifier(k, metric="cosine").fit(train, labels).predict(test)
    assert np.array_equal(knn_predict(train, labels, test, k), theirs)


def test_a_tied_vote_goes_to_the_lowest_class() -> None:
    train = np.array([[1.0, 0.1], [1.0, 0.0], [0.9, 0.2], [0.0, 1.0]])
    labels = np.array([2, 1, 2, 1])
    test = np.array([[5.0, 0.1]])
    assert knn_predict(train, labels, test, 1).tolist() == [1]
    assert knn_predict(train, labels, test, 3).tolist() == [2]
    assert knn_predict(train, labels, test, 4).tolist() == [1]
    assert knn_predict(train, labels, test, 50).tolist() == [1]  # as many as there are


def test_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 300)
    for named in (rng.integers(0, 4, 300), rng.integers(3, 6, 300), np.zeros(300, np.int64), true):
        expected = f1_score(true, named, average="macro", zero_division=0)
        assert macro_f1(true, named) == pytest.approx(expected, abs=1e-6)
        present = balanced_accuracy_score(true, named)
        assert balanced_accuracy(true, named) == pytest.approx(present, abs=1e-6)


def test_k_is_the_best_on_the_validation_part() -> None:
    (train, labels), (validation, truth) = tiles(0, 400), tiles(1, 300)
    models = [KNeighborsClassifier(k, metric="cosine").fit(train, labels) for k in KS]
    scores = [f1_score(truth, model.predict(validation), average="macro") for model in models]
    chosen = choose_k(train, labels, validation, truth)
    assert chosen == KS[int(np.argmax(scores))] != 1
    clear = tiles(2, 60, spread=0.01)
    assert choose_k(*clear, *clear) == 1  # all are right: the smallest


def test_a_k_above_the_number_of_tiles_is_not_tried() -> None:
    few, labels = tiles(0, 4)
    assert choose_k(few, labels, few, labels) in (1, 3)
    assert choose_k(few[:2], labels[:2], few, labels, ks=(10, 20)) == 10
    assert choose_k(few, labels, few[:0], labels[:0]) == 1


def test_the_interval_is_by_patient_and_covers() -> None:
    rng = np.random.default_rng(0)
    truth, covered, width = 0.5 * (0.7 + 0.6), 0, []
    for repetition in range(100):
        patients = np.repeat(np.arange(40), 6)
        labels = (patients % 2).astype(np.int64)
        # A patient's tiles succeed together: the chance of each differs around its class's.
        chance = np.clip(np.where(labels, 0.6, 0.7) + 0.2 * rng.choice([-1, 1], 40)[patients], 0, 1)
        named = np.where(rng.random(240) < chance, labels, 1 - labels)
        found = balanced_accuracy_by_patient(labels, named, patients, seed=repetition, draws=300)
        assert found.value == pytest.approx(balanced_accuracy_score(labels, named))
        covered += found.low <= truth <= found.high
        width.append(found.high - found.low)
    assert 87 <= covered < 100
    alone = balanced_accuracy_by_patient(labels, named, np.arange(240), seed=0)
    assert np.mean(width) > 1.1 * (alone.high - alone.low)


def test_each_draw_is_the_mean_recall_of_what_was_drawn() -> None:
    from pixcell_share.evaluation.knn import _recalls
    from pixcell_share.privacy.bootstrap import Resample

    rng = np.random.default_rng(1)
    labels, named, patients = (rng.integers(0, top, 60) for top in (3, 3, 8))
    resample = Resample.of(patients, rng, 6)
    found = np.nanmean(_recalls(labels, named, resample), axis=1)
    for draw in range(6):
        weights = resample.of_tiles(slice(draw, draw + 1))[0]
        expected = balanced_accuracy_score(labels, named, sample_weight=weights)
        assert found[draw] == pytest.approx(expected, abs=1e-9)


def test_all_right_is_no_certainty() -> None:
    labels = np.repeat([0, 1], 10)
    found = balanced_accuracy_by_patient(labels, labels, np.repeat(np.arange(5), 4), seed=0)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.05 ** (1 / 5))


@pytest.mark.parametrize("spoil", [0.0, np.nan, np.inf])
def test_embeddings_without_a_direction_are_refused(spoil: float) -> None:
    train, labels = tiles(0, 20)
    bad = train.copy()
    bad[3] = spoil
    with pytest.raises(AuditError, match="zero throughout, or not finite"):
        knn_predict(bad, labels, train, 1)
    with pytest.raises(AuditError, match="zero throughout, or not finite"):
        knn_predict(train, labels, bad, 1)
    with pytest.raises(AuditError, match="no tile"):
        knn_predict(train[:0], labels[:0], train, 1)
