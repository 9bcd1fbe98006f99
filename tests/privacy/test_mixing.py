"""Mixing: k different patients in each condition, no tile in two, as many groups as can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy import mixing
from pixcell_share.privacy.mixing import mix_embeddings, most_groups

SECRET = bytes(range(32))


def cohort(counts, *, dim=6, classes=1, seed=0):
    """A cohort whose patients have ``counts`` tiles each; the classes take turns."""
    random = np.random.default_rng(seed)
    patients = random.permutation(np.repeat(np.arange(len(counts)), counts))
    embeddings = random.normal(size=(len(patients), dim)).astype(np.float32) + 3
    return embeddings, patients, patients % classes


def most_by_taking_the_largest(counts, k):
    """Oracle: take one tile of each of the k patients with most left, as long as there are k."""
    left, groups = sorted(counts, reverse=True), 0
    while len(left) >= k and left[k - 1] > 0:
        left = sorted([count - 1 for count in left[:k]] + left[k:], reverse=True)
        groups += 1
    return groups


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(2, 5))
def test_the_most_groups_are_those_that_taking_the_largest_reaches(counts, k):
    assert most_groups(np.array(counts), k) == most_by_taking_the_largest(counts, k)


@given(st.lists(st.integers(1, 12), min_size=6, max_size=16), st.integers(2, 3), st.integers(1, 2))
def test_groups_are_disjoint_of_k_patients_of_one_class_and_as_many_as_can_be(counts, k, classes):
    embeddings, patients, labels = cohort(counts, classes=classes)
    mixed = mix_embeddings(embeddings, patients, labels, k, secret=SECRET)
    assert mixed.members.shape == (len(mixed.conditions), k)
    assert len(np.unique(mixed.members)) == mixed.members.size
    assert (np.diff(np.sort(patients[mixed.members], axis=1), axis=1) > 0).all()
    assert (labels[mixed.members] == mixed.labels[:, None]).all()
    assert mixed.left_out == len(patients) - mixed.members.size
    for label in range(classes):
        own = [count for patient, count in enumerate(counts) if patient % classes == label]
        assert (mixed.labels == label).sum() == most_by_taking_the_largest(own, k)


def test_a_condition_is_the_mean_at_the_mean_norm_of_its_members():
    embeddings, patients, labels = cohort([5] * 8)
    mixed = mix_embeddings(embeddings, patients, labels, 4, secret=SECRET)
    for condition, rows in zip(mixed.conditions, mixed.members, strict=True):
        mean = embeddings[rows].mean(axis=0)
        cosine = condition @ mean / np.linalg.norm(condition) / np.linalg.norm(mean)
        assert cosine == pytest.approx(1, abs=1e-6)
        norms = np.linalg.norm(embeddings[rows], axis=1)
        assert np.linalg.norm(condition) == pytest.approx(norms.mean(), rel=1e-6)


def test_grids_are_mixed_token_by_token():
    embeddings, patients, labels = cohort([3] * 6, dim=12)
    grids = embeddings.reshape(-1, 3, 4)
    mixed = mix_embeddings(grids, patients, labels, 3, secret=SECRET)
    assert mixed.conditions.shape == (6, 3, 4)
    token = mix_embeddings(grids, patients, labels, 3, secret=SECRET).conditions[:, 1]
    mean = grids[mixed.members, 1].mean(axis=1)
    norm = np.linalg.norm(grids[mixed.members, 1], axis=2).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True) * norm[:, None]
    np.testing.assert_allclose(token, expected, rtol=1e-5)


def test_the_same_secret_gives_the_same_bytes_and_another_one_other_groups():
    data = cohort([4] * 10)
    first = mix_embeddings(*data, 3, secret=SECRET)
    again = mix_embeddings(*data, 3, secret=SECRET)
    other = mix_embeddings(*data, 3, secret=SECRET[::-1])
    assert first.conditions.tobytes() == again.conditions.tobytes()
    assert first.members.tobytes() == again.members.tobytes()
    assert {frozenset(rows) for rows in first.members.tolist()} != {
        frozenset(rows) for rows in other.members.tolist()
    }


def test_the_order_tells_neither_the_class_nor_the_anchor():
    # Patient 0 has most tiles all along, so it is the anchor of every group of class 0.
    counts = [400, *([40] * 30)]
    embeddings, patients, _ = cohort(counts)
    twice = np.concatenate([embeddings, embeddings])
    labels = np.repeat([0, 1], len(embeddings))
    mixed = mix_embeddings(twice, np.tile(patients, 2), labels, 4, secret=SECRET)
    places = np.nonzero(np.tile(patients, 2)[mixed.members] == 0)[1]
    assert np.bincount(places, minlength=4).min() > len(places) / 4 * 0.7
    changes = (np.diff(mixed.labels) != 0).mean()
    assert 0.4 < changes < 0.6


def test_members_lie_nearer_to_each_other_than_by_chance(lung_tiles, embed):
    embeddings = embed(lung_tiles).astype(np.float32)
    patients = np.arange(len(embeddings))
    mixed = mix_embeddings(embeddings, patients, np.zeros_like(patients), 5, secret=SECRET)

    def spread(groups):
        return embeddings[groups].var(axis=1).sum(axis=1).mean()

    random = np.random.default_rng(0)
    by_chance = [spread(random.permutation(patients).reshape(-1, 5)) for _ in range(50)]
    assert spread(mixed.members) < 0.7 * min(by_chance)


def test_large_classes_are_dealt_out_in_blocks(monkeypatch):
    monkeypatch.setattr(mixing, "BLOCK", 60)
    embeddings, patients, labels = cohort([30, 25, 20, *([10] * 20), *([1] * 15)])
    mixed = mix_embeddings(embeddings, patients, labels, 3, secret=SECRET)
    assert (np.diff(np.sort(patients[mixed.members], axis=1), axis=1) > 0).all()
    assert len(np.unique(mixed.members)) == mixed.members.size
    most = most_groups(np.bincount(patients), 3)
    assert most - 6 <= len(mixed.members) <= most


@pytest.mark.parametrize("tiles", [1, 7])
def test_identical_tiles_throughout_are_mixed(tiles):
    patients = np.repeat(np.arange(6), tiles)
    embeddings = np.full((len(patients), 4), 2, np.float32)
    mixed = mix_embeddings(embeddings, patients, np.zeros_like(patients), 3, secret=SECRET)
    assert len(mixed.members) == 2 * tiles
    np.testing.assert_allclose(mixed.conditions, 2, rtol=1e-6)


def test_embeddings_that_cancel_give_no_nan():
    embeddings = np.array([[1, 0], [-1, 0]], np.float32)
    mixed = mix_embeddings(embeddings, np.arange(2), np.zeros(2, np.int64), 2, secret=SECRET)
    assert np.isfinite(mixed.conditions).all()


def test_a_class_with_too_few_patients_is_refused_by_its_name():
    embeddings, patients, _ = cohort([50, 50, 1, 1])
    labels = (patients > 1).astype(np.int64)
    with pytest.raises(SettingsError, match=r"'tumour' has 2 patients, and --mix 3 needs 3"):
        mix_embeddings(
            embeddings, patients, labels, 3, secret=SECRET, class_names=["tumour", "stroma"]
        )


@pytest.mark.parametrize("k", [1, 0, -2])
def test_mixing_fewer_than_two_is_refused(k):
    with pytest.raises(SettingsError, match="mixes nothing"):
        mix_embeddings(*cohort([3] * 5), k, secret=SECRET)


def test_bad_values_are_refused():
    embeddings, patients, labels = cohort([3] * 5)
    with pytest.raises(SettingsError, match="secret"):
        mix_embeddings(embeddings, patients, labels, 2, secret=b"short")
    with pytest.raises(ValueError, match="length"):
        mix_embeddings(embeddings, patients[1:], labels, 2, secret=SECRET)
    embeddings[4, 1] = np.nan
    with pytest.raises(AuditError, match="not finite"):
        mix_embeddings(embeddings, patients, labels, 2, secret=SECRET)
