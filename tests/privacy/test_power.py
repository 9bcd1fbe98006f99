import numpy as np
import pytest
from scipy.stats import binom

from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.one_run import most_detectable
from pixcell_share.privacy.power import (
    detectable_residual,
    holdout_needed,
    threshold_rank,
    upper_bound_of_none,
)
from pixcell_share.privacy.residual import Residual


@pytest.mark.parametrize(
    ("patients", "percent"), [(100, 2.95), (300, 0.99), (1000, 0.30), (3000, 0.10)]
)
def test_bound_of_none(patients, percent):
    assert 100 * upper_bound_of_none(patients) == pytest.approx(percent, abs=0.005)
    assert binom.pmf(0, patients, upper_bound_of_none(patients)) == pytest.approx(0.05)


def test_bound_of_nobody_is_one():
    assert upper_bound_of_none(0) == 1.0


@pytest.mark.parametrize(("canaries", "epsilon"), [(100, 3.49), (1000, 5.78), (5000, 7.28)])
def test_ceiling_of_one_run(canaries, epsilon):
    assert most_detectable(canaries, canaries, 1e-5) == pytest.approx(epsilon, abs=0.005)


@pytest.mark.parametrize("holdout", [0, 1, 9])
def test_too_few_patients_set_aside_detect_nothing(holdout):
    assert threshold_rank(holdout) == 0
    assert detectable_residual(500, holdout) == 1.0


def test_nobody_in_the_cohort_detects_nothing():
    assert detectable_residual(0, 50) == 1.0


def test_ten_patients_are_the_fewest_at_one_alarm_in_ten():
    assert threshold_rank(10) == 1
    assert detectable_residual(50, 10) < 0.5


def test_more_patients_detect_less():
    by_cohort = [detectable_residual(n, 40) for n in (10, 40, 160, 640)]
    by_holdout = [detectable_residual(200, n) for n in (10, 20, 50, 100, 500)]
    assert by_cohort == sorted(by_cohort, reverse=True)
    assert by_holdout == sorted(by_holdout, reverse=True)
    assert by_holdout[-1] < 0.11


@pytest.mark.parametrize(("patients", "holdout"), [(40, 20), (100, 30), (300, 100)])
def test_power_is_what_simulated_audits_have(patients, holdout):
    """Whole attacks: scores of outsiders are normal, linked patients score above all."""
    risk = detectable_residual(patients, holdout)
    rng, rank, hits = np.random.default_rng(5), threshold_rank(holdout), []
    for _ in range(1500):
        outside = np.sort(rng.standard_normal(holdout))
        scores = rng.standard_normal(patients)
        scores[rng.random(patients) < risk] = np.inf
        hits.append(int((scores > outside[-rank]).sum()))
    control = Share(rank, holdout)
    lows = {n: Residual(Share(n, patients), control).estimate.low for n in set(hits)}
    assert np.mean([lows[n] > 0 for n in hits]) == pytest.approx(0.8, abs=0.05)


def test_holdout_needed_is_the_fewest_that_suffice():
    needed = holdout_needed(0.2, 250)
    assert detectable_residual(250 - needed, needed) <= 0.2
    assert detectable_residual(250 - needed + 10, needed - 10) > 0.2


def test_no_holdout_suffices_for_a_small_site():
    assert holdout_needed(0.05, 100) is None
    assert holdout_needed(0.5, 8) is None
