from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.power import threshold_rank
from pixcell_share.privacy.residual import Residual


def test_value_is_what_the_control_leaves_to_be_won():
    assert Residual(Share(55, 100), Share(10, 100)).estimate.value == pytest.approx(0.5)
    assert Residual(Share(10, 100), Share(10, 100)).estimate.value == 0.0
    assert Residual(Share(100, 100), Share(10, 100)).estimate.value == pytest.approx(1.0)


def test_ends_follow_from_the_ends_of_the_wilson_intervals():
    attack, control = Share(60, 120), Share(5, 50)
    found = Residual(attack, control).estimate
    by_attack = (0.5 - attack.interval[0]) / 0.9
    by_control = (control.interval[1] - 0.1) * 0.5 / 0.81
    assert found.low == pytest.approx(found.value - sqrt(by_attack**2 + by_control**2), abs=1e-12)


def test_no_control_left_says_nothing():
    found = Residual(Share(9, 10), Share(10, 10)).estimate
    assert (found.value, found.low, found.high) == (0.0, 0.0, 1.0)


def test_nobody_attacked_or_no_control_says_nothing():
    assert Residual(Share(0, 0), Share(1, 10)).estimate.high > 0.9
    assert Residual(Share(5, 10), Share(0, 0)).estimate.low == 0.0


def test_a_control_that_did_better_makes_no_risk_smaller():
    worse = Residual(Share(0, 20), Share(10, 20)).estimate
    assert worse.value == worse.low == 0.0
    assert worse.high >= Share(0, 20).interval[1]


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_ends_stay_within_bounds_and_hold_the_value(patients, holdout, data):
    attack = Share(data.draw(st.integers(0, patients)), patients)
    control = Share(data.draw(st.integers(0, holdout)), holdout)
    found = Residual(attack, control).estimate
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


@given(st.integers(1, 199), st.integers(0, 50))
def test_more_hits_never_lower_the_risk(hits, alarms):
    control = Share(alarms, 50)
    fewer = Residual(Share(hits, 200), control).estimate
    more = Residual(Share(hits + 1, 200), control).estimate
    assert more.value >= fewer.value
    assert more.low >= fewer.low - 1e-12
    assert fewer.value == 0.0 or more.high >= fewer.high - 1e-12


@pytest.mark.parametrize(("patients", "holdout"), [(60, 20), (100, 50), (400, 100)])
@pytest.mark.parametrize("risk", [0.0, 0.2, 0.6])
def test_interval_covers_the_true_risk(patients, holdout, risk):
    """Simulated audits: the threshold is an order statistic of the patients set aside."""
    rng = np.random.default_rng(11)
    rank = threshold_rank(holdout)
    alarms = rng.beta(rank, holdout + 1 - rank, 400)
    hits = rng.binomial(patients, risk + (1 - risk) * alarms).tolist()
    control = Share(rank, holdout)
    ends = {n: Residual(Share(n, patients), control).estimate for n in set(hits)}
    covered = sum(ends[n].low <= risk <= ends[n].high for n in hits)
    assert covered >= 400 * 0.90
