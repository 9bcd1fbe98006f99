"""What a cohort is good for: better cohorts score better, and no real tile chooses anything."""

from __future__ import annotations

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.evaluation import cohort_utility, knn_predict
from pixcell_share.evaluation.utility import _divide
from pixcell_share.privacy.sample import Tiles

CLASSES, DIM = 3, 24
CENTRES = np.random.default_rng(0).normal(size=(CLASSES, DIM))


def real(seed: int, patients: int = 30, tiles: int = 6) -> Tiles:
    """Tiles around their class, with a part that those of one patient share."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), tiles)
    labels = owner % CLASSES
    shared = 0.5 * rng.normal(size=(patients, DIM))
    embeddings = CENTRES[labels] + shared[owner] + rng.normal(size=(len(owner), DIM))
    return Tiles(embeddings.astype(np.float32), owner + 1000 * seed, labels)


@pytest.fixture(scope="module")
def test_tiles() -> Tiles:
    return real(1)


def blurred(tiles: Tiles, amount: float) -> np.ndarray:
    noise = np.random.default_rng(5).normal(size=tiles.embeddings.shape)
    return (tiles.embeddings + amount * noise).astype(np.float32)


def test_a_worse_copy_is_of_less_use(test_tiles) -> None:
    source = real(2)
    found = [cohort_utility(blurred(source, amount), source.labels, test_tiles, seed=0)
             for amount in (0.0, 4.0, 20.0)]  # fmt: skip
    accuracies = [each.balanced_accuracy.value for each in found]
    distances = [each.frechet for each in found]
    assert accuracies[0] > accuracies[1] > accuracies[2]
    assert distances[0] < distances[1] < distances[2]
    assert found[0].balanced_accuracy.low > 1 / CLASSES
    assert found[2].balanced_accuracy.high < found[0].balanced_accuracy.low


def test_labels_that_say_nothing_are_of_no_use(test_tiles) -> None:
    source = real(2)
    shuffled = np.random.default_rng(0).permutation(source.labels)
    found = cohort_utility(source.embeddings, shuffled, test_tiles, seed=0).balanced_accuracy
    assert found.low < 1 / CLASSES < found.high + 0.05


def test_it_is_the_prediction_with_the_chosen_k(test_tiles) -> None:
    source = real(2)
    found = cohort_utility(source.embeddings, source.labels, test_tiles, seed=3)
    named = knn_predict(source.embeddings, source.labels, test_tiles.embeddings, found.k)
    recall = [np.mean(named[test_tiles.labels == c] == c) for c in range(CLASSES)]
    assert found.balanced_accuracy.value == pytest.approx(np.mean(recall))
    again = cohort_utility(source.embeddings, source.labels, test_tiles, seed=3)
    assert again == found


def test_k_does_not_depend_on_the_real_tiles(test_tiles) -> None:
    source = real(2)
    other = Tiles(-test_tiles.embeddings, test_tiles.patients, test_tiles.labels[::-1].copy())
    ks = {cohort_utility(source.embeddings, source.labels, tiles, seed=0).k
          for tiles in (test_tiles, other)}  # fmt: skip
    assert len(ks) == 1


def test_the_validation_part_has_its_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2, 5], [50, 10, 1, 2])
    kept, validation = _divide(labels, seed=0)
    assert np.array_equal(np.sort(np.concatenate([kept, validation])), np.arange(63))
    assert [int((labels[validation] == name).sum()) for name in (0, 1, 2, 5)] == [10, 2, 0, 0]


def test_a_class_that_the_cohort_lacks_is_never_recognised(test_tiles) -> None:
    source = real(2)
    two = source.take(source.labels < 2)
    found = cohort_utility(two.embeddings, two.labels, test_tiles, seed=0)
    assert found.balanced_accuracy.value <= 2 / 3


def test_one_tile_of_each_class_is_enough_to_say_something(test_tiles) -> None:
    found = cohort_utility(CENTRES.astype(np.float32), np.arange(3), test_tiles, seed=0)
    assert found.k == 1
    assert found.balanced_accuracy.value > 0.8


def test_nothing_to_learn_from_or_to_test_is_refused(test_tiles) -> None:
    source = real(2)
    with pytest.raises(AuditError, match="1 synthetic"):
        cohort_utility(source.embeddings[:1], source.labels[:1], test_tiles, seed=0)
    with pytest.raises(AuditError, match="0 real"):
        cohort_utility(
            source.embeddings, source.labels, test_tiles.take(np.empty(0, np.int64)), seed=0
        )
