"""Accounting against the exact formula, and that against an integral of the definition."""

import math
import warnings

import numpy as np
import pytest
from opacus.accountants import create_accountant
from scipy.integrate import quad
from scipy.stats import norm

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy import accounting
from pixcell_share.privacy.accounting import (
    compose,
    compose_gaussian,
    gaussian_delta,
    gaussian_epsilon,
    noise_for,
)


def delta_by_integration(multiplier, epsilon):
    """The definition: integral of max(0, p - exp(epsilon) q) of two Gaussians 1 apart."""

    def excess(x):
        p, q = norm.pdf(x, 1, multiplier), norm.pdf(x, 0, multiplier)
        return max(0.0, p - math.exp(epsilon) * q)

    # It is positive from where the ratio of the two reaches exp(epsilon).
    start = epsilon * multiplier**2 + 0.5
    return quad(excess, start, start + 12 * multiplier + 1, epsabs=1e-14, limit=200)[0]


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
def test_the_formula_is_the_integral_of_the_definition(multiplier, epsilon):
    expected = delta_by_integration(multiplier, epsilon)
    assert gaussian_delta(multiplier, epsilon) == pytest.approx(expected, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("multiplier", [0.05, 0.5, 3.0, 50.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_epsilon_and_delta_are_each_other_turned_round(multiplier, delta):
    epsilon = gaussian_epsilon(multiplier, delta)
    assert gaussian_delta(multiplier, epsilon) == pytest.approx(delta, rel=1e-4)


def test_much_noise_needs_no_epsilon_at_all():
    assert gaussian_epsilon(1e6, 1e-5) == 0.0


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.01, 1e-5), (0.1, 1e-3), (1.0, 1e-5), (3.0, 1e-9), (8.0, 1e-5), (100.0, 1e-7)],
)
def test_the_claim_lies_between_the_exact_epsilon_and_what_was_asked(epsilon, delta):
    noise = noise_for(epsilon, delta)
    exact = gaussian_epsilon(noise.multiplier, delta)
    assert exact - 1e-3 <= noise.epsilon <= epsilon
    # Not much more noise than needed.
    assert exact >= min(epsilon - 0.0135, 0.9 * epsilon)
    assert noise.accountant == "prv"
    assert noise.accountant_version.startswith("opacus 1.")


def test_the_smaller_epsilon_or_delta_asks_for_more_noise():
    multipliers = [noise_for(e, d).multiplier for e, d in [(8, 1e-5), (1, 1e-5), (1, 1e-8)]]
    assert multipliers == sorted(multipliers)
    assert len(set(multipliers)) == 3


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0, 1e-5), (-1, 1e-5), (math.nan, 1e-5), (math.inf, 1e-5), (1, 0), (1, 1), (1, math.nan)],
)
def test_what_no_noise_can_keep_is_refused(epsilon, delta):
    with pytest.raises(SettingsError):
        noise_for(epsilon, delta)


def test_an_accountant_that_claims_too_little_is_not_believed(monkeypatch):
    multiplier = noise_for(8, 1e-5).multiplier
    noise_for.cache_clear()
    monkeypatch.setattr(accounting, "_ask_opacus", lambda *_: (multiplier, 1.0))
    with pytest.raises(AuditError, match=r"claims epsilon 1\.0000"):
        noise_for(1, 1e-5)


def test_releases_add_up():
    epsilon, delta = compose([(1.0, 1e-5), (0.5, 1e-6), (0.1, 0.0)])
    assert (epsilon, delta) == (pytest.approx(1.6), pytest.approx(1.1e-5))
    assert compose([]) == (0.0, 0.0)


@pytest.mark.parametrize("multipliers", [[2.0], [1.5, 1.5], [0.8, 2.0, 5.0]])
def test_gaussians_together_agree_with_opacus(multipliers):
    accountant = create_accountant("prv")
    accountant.history = [(multiplier, 1.0, 1) for multiplier in multipliers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = accountant.get_epsilon(delta=1e-5)  # an upper bound, within its 0.01
    ours = compose_gaussian(multipliers, 1e-5)
    assert ours - 1e-3 <= theirs <= ours + 0.03


def test_gaussians_together_cost_less_than_their_sum():
    multipliers, delta = [1.5, 2.0, 3.0], 1e-6
    each = [(gaussian_epsilon(m, delta / 3), delta / 3) for m in multipliers]
    assert compose_gaussian(multipliers, delta) < 0.8 * compose(each)[0]
    assert compose_gaussian([], delta) == 0.0
    assert np.isclose(compose_gaussian([2.0, 2.0], delta), gaussian_epsilon(2**0.5, delta))
