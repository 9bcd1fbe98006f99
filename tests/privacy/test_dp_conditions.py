"""Differentially private conditions: sensitivity, noise, same bytes, and what is left of signal."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.files import canonical_json
from pixcell_share.privacy.dp_conditions import DpSettings, dp_conditions, fit
from pixcell_share.privacy.dp_statistics import NORM_GRID, Weights, noised_sums, patient_sums

SECRET = bytes(range(32))
WEIGHTS = Weights()


def vector(sums, weights=WEIGHTS):
    """The mechanism's whole vector: what its noise and its sensitivity are about."""
    upper = np.triu_indices(len(sums.spread), 1)
    parts = [
        weights.mean * sums.means.ravel(),
        weights.spread * np.diag(sums.spread),
        weights.spread * np.sqrt(2) * sums.spread[upper],
        weights.norm * sums.norms,
        weights.count * sums.counts,
    ]
    return np.concatenate(parts)


def cohort(patients=60, tiles=5, *, dim=8, classes=2, spread=0.3, norm=14.0, seed=0):
    """Patients of one class each; within a class tiles vary along one direction (the last axis)."""
    random = np.random.default_rng(seed)
    centres = np.ones((classes, dim)) + random.normal(size=(classes, dim)) * 0.7
    centres[:, -1] = 0
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    own = np.repeat(np.arange(patients), tiles)
    labels = own % classes
    unit = centres[labels]
    unit[:, -1] = random.normal(size=len(own)) * spread
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return (unit * norm).astype(np.float32), own, labels, centres


def noised(data, multiplier=1.0, secret=SECRET, weights=WEIGHTS, classes=2):
    return noised_sums(
        *data[:3], classes, noise_multiplier=multiplier, weights=weights, secret=secret
    )


def conditions(data, epsilon=100.0, per_patient=3, secret=SECRET, classes=2, delta=1e-5):
    return dp_conditions(
        *data[:3], classes,
        settings=DpSettings(epsilon, delta), secret=secret, per_patient=per_patient,
    )  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(-6, 8))
def test_a_patient_moves_the_vector_by_at_most_one(seed, tiles, magnitude):
    embeddings, patients, labels, _ = cohort(5, 3, classes=3)
    random = np.random.default_rng(seed)
    extra = (random.normal(size=(tiles, 8)) * 10**magnitude + 1e-6).astype(np.float32)
    more = (
        np.concatenate([embeddings, extra]),
        np.concatenate([patients, np.full(tiles, 99)]),
        np.concatenate([labels, random.integers(0, 3, tiles)]),
    )
    moved = vector(patient_sums(*more, 3)) - vector(patient_sums(embeddings, patients, labels, 3))
    assert np.linalg.norm(moved) <= 1 + 1e-9


def test_a_patient_with_one_tile_on_the_grid_moves_it_by_one():
    one = np.zeros((1, 8), np.float32)
    one[0, 3] = 2.0**4
    sums = patient_sums(one, np.array([7]), np.array([1]), 2)
    assert np.linalg.norm(vector(sums)) == pytest.approx(1, abs=1e-12)


def test_a_patient_counts_once_whatever_the_number_of_tiles():
    embeddings = np.array([[3, 4], [0, 8]], np.float32)
    once = patient_sums(embeddings, np.arange(2), np.zeros(2, np.int64), 1)
    rows = np.repeat([0, 1], [1000, 1])
    often = patient_sums(embeddings[rows], rows, np.zeros(1001, np.int64), 1)
    np.testing.assert_allclose(vector(often), vector(once), rtol=1e-9)


def test_weights_that_break_the_sensitivity_are_refused():
    for weights in [(0.9, 0.9, 0.1, 0.1), (0.0, 0.6, 0.0, 0.8), (1.2, -0.5, 0.1, 0.1)]:
        with pytest.raises(SettingsError, match="add up to 1"):
            Weights(*weights)


def test_every_part_has_the_noise_that_was_asked_for():
    data = cohort(4, 2)
    exact = vector(patient_sums(*data[:3], 2))
    secrets = [number.to_bytes(16) for number in range(400)]
    noise = np.stack([vector(noised(data, 2.5, secret)) - exact for secret in secrets])
    # 400 draws: a standard deviation is within 15 % of its own by more than four of its errors.
    assert np.abs(noise.std(axis=0) / 2.5 - 1).max() < 0.15
    assert np.abs(noise.mean(axis=0)).max() < 2.5 * 0.22
    correlation = np.corrcoef(noise.T) - np.eye(len(exact))
    assert np.abs(correlation).max() < 0.28


def test_the_same_input_gives_the_same_bytes():
    data = cohort()
    first, again = conditions(data, 8.0), conditions(data, 8.0)
    assert first.conditions.tobytes() == again.conditions.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()


def changed_inputs():
    data = cohort(dim=40)
    nudged = data[0].copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(100))
    relabelled = data[2].copy()
    relabelled[:5] = 1 - relabelled[:5]
    moved = data[1].copy()
    moved[0] = 1
    return {
        "an embedding's last bit": (nudged, data[1], data[2]),
        "a class": (data[0], data[1], relabelled),
        "a patient": (data[0], moved, data[2]),
        "one patient less": tuple(part[5:] for part in data[:3]),
    }


@pytest.mark.parametrize("change", changed_inputs())
def test_another_input_shares_no_noise(change):
    data, other = cohort(dim=40), changed_inputs()[change]
    noises = [vector(noised(d)) - vector(patient_sums(*d[:3], 2)) for d in (data, other)]
    assert abs(np.corrcoef(noises)[0, 1]) < 0.15  # of about 900 numbers
    assert np.std(noises[0] - noises[1]) > 1.2


def test_other_noise_levels_weights_and_secrets_share_no_noise():
    data = cohort(dim=40)
    exact = patient_sums(*data[:3], 2)
    base = vector(noised(data)) - vector(exact)
    weights = Weights(WEIGHTS.spread, WEIGHTS.mean, WEIGHTS.norm, WEIGHTS.count)
    others = [
        vector(noised(data, 1.5)) - vector(exact),
        vector(noised(data, weights=weights), weights) - vector(exact, weights),
        vector(noised(data, secret=SECRET[::-1])) - vector(exact),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.15


def test_a_large_epsilon_gives_the_cohort_back():
    data = cohort(600, 4, norm=23.0)
    made = conditions(data, per_patient=3)
    assert made.directions in (1, 2)  # unit tiles that vary sideways also vary in depth
    assert made.signal > 0.99
    assert np.bincount(made.labels) == pytest.approx([900, 900], abs=10)
    np.testing.assert_allclose(np.linalg.norm(made.conditions, axis=1), 23.0, rtol=0.02)
    unit = made.conditions / np.linalg.norm(made.conditions, axis=1, keepdims=True)
    real = data[0] / np.linalg.norm(data[0], axis=1, keepdims=True)
    for label in range(2):
        drawn, true = unit[made.labels == label], real[data[2] == label]
        mean = drawn.mean(axis=0) / np.linalg.norm(drawn.mean(axis=0))
        assert mean @ true.mean(axis=0) / np.linalg.norm(true.mean(axis=0)) > 0.999
        assert drawn[:, -1].std() == pytest.approx(true[:, -1].std(), rel=0.1)


@settings(max_examples=5)
@given(st.sampled_from([1.0, 2.0, 4.0]))
def test_noise_alone_is_never_taken_for_spread(multiplier):
    data = cohort(80, 1, dim=24, spread=0.0)
    for number in range(20):
        sums = noised(data, multiplier, bytes([number]) * 16)
        assert fit(sums, multiplier, WEIGHTS).factor.shape[1] == 0


def test_a_large_dimension_is_left_with_its_means_not_with_noise():
    data = cohort(400, 2, dim=1536)
    made = conditions(data, 8.0)
    assert made.directions == 0
    assert np.isfinite(made.conditions).all()
    for label in range(2):
        drawn = made.conditions[made.labels == label]
        np.testing.assert_array_equal(drawn, np.broadcast_to(drawn[0], drawn.shape))
        assert drawn[0] @ data[3][label] / np.linalg.norm(drawn[0]) > 0.9


def test_the_signal_says_how_much_of_the_mean_is_left():
    for patients, epsilon in [(20, 1.0), (60, 8.0), (300, 8.0)]:
        data = cohort(patients, 1, dim=300, classes=1)
        truth, reported = [], []
        for number in range(12):
            made = conditions(data, epsilon, 1, bytes([number]) * 16, classes=1)
            mean = made.conditions[0] / np.linalg.norm(made.conditions[0])
            truth.append((mean @ data[3][0]) ** 2)
            reported.append(made.signal)
        assert np.mean(reported) == pytest.approx(np.mean(truth), abs=0.1)


def test_a_patient_in_two_classes_is_half_in_each():
    embeddings = np.ones((2, 4), np.float32)
    sums = patient_sums(embeddings, np.zeros(2, np.int64), np.array([0, 1]), 2)
    np.testing.assert_allclose(sums.counts, [0.5, 0.5])
    assert np.linalg.norm(vector(sums)) <= 1


def test_every_class_has_a_condition_even_without_patients():
    data = cohort(30, 2)
    made = conditions(data, 8.0, 1, classes=5)
    assert set(made.labels.tolist()) == set(range(5))
    assert np.isfinite(made.conditions).all()


def test_the_number_of_conditions_is_the_noised_count_times_what_was_asked_for():
    data = cohort(60, 2)
    one, ten = conditions(data, 8.0, 1), conditions(data, 8.0, 10)
    for label in range(2):
        ratio = (ten.labels == label).sum() / (one.labels == label).sum()
        assert ratio == pytest.approx(10, rel=0.05)  # the same count, rounded later
    counts = {len(conditions(data, 1.0, 10, bytes([n]) * 16).labels) for n in range(5)}
    assert len(counts) == 5


def test_the_guarantee_can_be_written_and_promises_no_less_than_asked():
    found = asdict(conditions(cohort(), 8.0).guarantee)
    assert b'"unit":"patient"' in canonical_json(found)
    assert found["epsilon"] <= 8.0
    assert found["clip"] == 1.0
    assert found["adjacency"] == "add or remove one patient"


def test_norms_off_the_grid_count_for_its_ends():
    embeddings = np.array([[1e-9, 0], [1e30, 0]], np.float32)
    sums = patient_sums(embeddings, np.arange(2), np.zeros(2, np.int64), 1)
    assert sums.norms[0] == sums.norms[-1] == 1.0
    assert len(sums.norms) == len(NORM_GRID)


def test_one_embedding_per_tile_may_come_as_a_grid_of_one():
    data = cohort()
    grid = (data[0][:, None], *data[1:])
    assert conditions(grid, 8.0).conditions.tobytes() == conditions(data, 8.0).conditions.tobytes()
    with pytest.raises(SettingsError, match="grids"):
        conditions((data[0].reshape(-1, 2, 4), *data[1:]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_embedding_that_is_zero_or_not_finite_is_refused(value):
    data = cohort()
    data[0][3] = value
    with pytest.raises(AuditError, match="zero or not finite"):
        conditions(data)


def test_settings_that_cannot_be_are_refused():
    data = cohort(60)
    with pytest.raises(SettingsError, match="not below 1 / 60"):
        conditions(data, 8.0, delta=1 / 60)
    with pytest.raises(SettingsError, match="epsilon"):
        conditions(data, 0.0)
    with pytest.raises(SettingsError, match="per patient"):
        conditions(data, per_patient=0)
    with pytest.raises(SettingsError, match="secret"):
        conditions(data, secret=b"short")
    with pytest.raises(ValueError, match="label"):
        conditions((data[0], data[1], data[2] + 1))


def test_leaving_the_spread_out_keeps_the_guarantee():
    weights = replace(WEIGHTS, mean=(0.8) ** 0.5, spread=0.0)
    data = cohort(600)
    sums = noised(data, 0.5, weights=weights)
    assert not sums.spread.any()
    assert fit(sums, 0.5, weights).factor.shape == (8, 0)
