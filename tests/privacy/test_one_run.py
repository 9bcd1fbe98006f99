"""The one-run audit: the paper's figures, its own code as oracle, and the mechanism under test."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from pixcell_share.errors import SettingsError
from pixcell_share.privacy.accounting import noise_for
from pixcell_share.privacy.one_run import (
    _p_value,
    audit_lower_bound,
    audit_mechanism,
    most_detectable,
)

DELTA = 1e-5


def p_value_of_the_paper(m, r, v, eps, delta):
    """Appendix D of arXiv 2305.08846, term by term."""
    q = 1 / (1 + math.exp(-eps))
    beta = binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        if total > i * alpha:
            alpha = total / i
    return min(beta + alpha * delta * 2 * m, 1)


@pytest.mark.parametrize(
    ("correct", "canaries", "expected"),
    [(100, 100, 3.49), (1000, 1000, 5.78), (5000, 5000, 7.28), (600, 1000, 0.30)],
)
def test_figures_of_the_reference(correct, canaries, expected):
    bound = audit_lower_bound(correct, canaries, canaries, DELTA)
    assert bound == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 4.0])
@pytest.mark.parametrize(("correct", "guesses"), [(1, 1), (30, 40), (100, 100), (60, 300)])
def test_the_probability_is_that_of_the_paper(epsilon, correct, guesses):
    ours = _p_value(correct, guesses, 400, epsilon, DELTA)
    assert ours == pytest.approx(p_value_of_the_paper(400, guesses, correct, epsilon, DELTA))


def test_more_correct_guesses_never_prove_less():
    bounds = [audit_lower_bound(correct, 200, 500, DELTA) for correct in range(0, 201, 10)]
    assert bounds == sorted(bounds)
    assert bounds[10] == 0.0
    assert bounds[-1] == most_detectable(200, 500, DELTA) > 3


def test_randomised_response_is_overrated_in_at_most_one_run_of_twenty():
    # The mechanism for which the bound is tight: a guess is right with exp(e) / (1 + exp(e)).
    epsilon, runs = 1.0, 4000
    correct = np.random.default_rng(0).binomial(300, 1 / (1 + math.exp(-epsilon)), runs)
    bounds = {v: audit_lower_bound(v, 300, 300, 0.0) for v in np.unique(correct).tolist()}
    overrated = np.mean([bounds[v] > epsilon for v in correct.tolist()])
    assert 0.02 < overrated < 0.06


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_the_mechanism_stays_under_its_claim(epsilon):
    noise = noise_for(epsilon, DELTA)
    bounds = []
    for seed in range(5):
        run = audit_mechanism(
            noise.multiplier, DELTA, canaries=1000, guesses=200, secret=bytes([seed] * 16)
        )
        bounds.append(run.epsilon_low)
        assert run.detectable == pytest.approx(4.17, abs=0.01)
    assert max(bounds) < noise.epsilon
    if epsilon > 1:  # and the attack is no straw man
        assert np.median(bounds) > 0.25 * epsilon


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_a_quarter_of_the_noise_is_noticed(epsilon):
    quarter = noise_for(epsilon, DELTA).multiplier / 4
    bounds = [
        audit_mechanism(
            quarter, DELTA, canaries=1000, guesses=200, secret=bytes([seed] * 16)
        ).epsilon_low
        for seed in range(5)
    ]
    assert np.median(bounds) > epsilon


def test_bad_counts_are_refused():
    with pytest.raises(SettingsError, match="guesses on 10 canaries"):
        audit_mechanism(1.0, DELTA, canaries=10, guesses=3, secret=bytes(16))
    with pytest.raises(SettingsError, match="guesses on 10 canaries"):
        audit_mechanism(1.0, DELTA, canaries=10, guesses=12, secret=bytes(16))
    with pytest.raises(ValueError, match="11 of 10"):
        audit_lower_bound(11, 10, 10, DELTA)
