import time

import numpy as np
import pytest

from pixcell_share.privacy.bootstrap import (
    Resample,
    mean_by_patient,
    percentile,
    share_by_patient,
)


def clustered(rng, patients, tiles):
    """Values of tiles that share most of their deviation with their patient."""
    names = np.repeat(np.arange(patients), tiles)
    values = rng.standard_normal(patients)[names] + 0.2 * rng.standard_normal(len(names))
    return values, names


def test_interval_is_that_of_patients_not_of_tiles():
    values, names = clustered(np.random.default_rng(0), 100, 20)
    found = mean_by_patient(values, names, seed=1)
    expected = 2 * 1.96 * values.reshape(100, 20).mean(axis=1).std(ddof=1) / 10
    assert found.high - found.low == pytest.approx(expected, rel=0.15)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        found = mean_by_patient(*clustered(rng, 40, 5), seed=seed, draws=400)
        covered += found.low <= 0.0 <= found.high
    assert 178 <= covered <= 199  # 92.5 % expected of 40 patients; 5 standard errors


def test_means_are_those_of_tiles_drawn_by_hand():
    values, names = np.array([1.0, 2.0, 5.0, 7.0]), np.array([9, 9, 4, 30])
    resample = Resample.of(names, np.random.default_rng(0), 50)
    people = {0: [5.0], 1: [1.0, 2.0], 2: [7.0]}  # in the order of their numbers
    for counts, mean in zip(resample.counts, resample.means(values), strict=True):
        drawn = [v for p, tiles in people.items() for v in tiles * int(counts[p])]
        assert mean == pytest.approx(np.mean(drawn))
    assert (resample.counts.sum(axis=1) == 3).all()
    assert (resample.of_tiles() @ values).tolist() == pytest.approx(
        (resample.means(values) * resample.sizes()).tolist()
    )


def test_same_seed_same_interval_and_other_seed_another():
    values, names = clustered(np.random.default_rng(5), 30, 3)
    first = mean_by_patient(values, names, seed=7)
    assert first == mean_by_patient(values, names, seed=7)
    assert first != mean_by_patient(values, names, seed=8)


def test_order_and_numbers_of_patients_do_not_matter_to_the_width():
    values, names = clustered(np.random.default_rng(5), 30, 3)
    renamed = mean_by_patient(values, names * 1000 + 17, seed=7)
    assert renamed == mean_by_patient(values, names, seed=7)


@pytest.mark.parametrize(("outcome", "low", "high"), [(0.0, 0.0, 0.1391), (1.0, 0.8609, 1.0)])
def test_a_share_of_none_or_all_is_not_certain(outcome, low, high):
    found = share_by_patient(np.full(100, outcome), np.repeat(np.arange(20), 5), seed=0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)  # 1 - 0.05^(1/20)


def test_one_patient_gives_the_widest_interval_of_a_share():
    found = share_by_patient(np.ones(50), np.zeros(50, dtype=np.int64), seed=0)
    assert found.low == pytest.approx(0.05)


def test_interval_always_holds_its_estimate():
    found = percentile(3.0, np.array([0.0, 1.0, 2.0]))
    assert found.low <= found.value <= found.high


def test_five_hundred_patients_take_well_under_a_second():
    values, names = clustered(np.random.default_rng(0), 500, 20)
    start = time.process_time()
    mean_by_patient(values, names, seed=1, draws=2000)
    assert time.process_time() - start < 1.0
