"""How much noise an epsilon asks for, and what several releases come to together.

The accountant is opacus' numerical one ("prv": Gopi, Lee and Wutschitz, NeurIPS 2021), run for
one step in which everybody takes part. A single Gaussian mechanism also has a formula (Balle and
Wang, ICML 2018, theorem 8): every claim of the accountant is compared with it before it is used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from pixcell_share.errors import AuditError, SettingsError

ACCOUNTANT = "prv"
"""Name of opacus' accountant."""

EPSILON_RANGE = (0.01, 100.0)
"""Epsilons that can be asked for: less needs more noise than any cohort bears, and more promises
nothing. The accountant was compared with the formula in this range."""

_SLACK = 1e-3
"""How far a claimed epsilon may lie below the exact one: rounding, no more."""


@dataclass(frozen=True)
class Noise:
    """Noise of one Gaussian mechanism of sensitivity 1, and what it is good for."""

    multiplier: float
    """Standard deviation of the noise, in units of the sensitivity."""
    epsilon: float
    """What the accountant claims for it; at most what was asked for."""
    delta: float
    """Probability mass that epsilon does not cover."""
    accountant: str
    """Who says so."""
    accountant_version: str
    """Its package and version."""


@lru_cache(maxsize=64)
def noise_for(epsilon: float, delta: float) -> Noise:
    """The least noise, within 1 % of epsilon or 0.011, that keeps (epsilon, delta).

    Raises:
        SettingsError: epsilon is outside `EPSILON_RANGE`, or delta not between 0 and 1.
        AuditError: the accountant claims less than the exact formula gives.
    """
    _check(epsilon, delta)
    multiplier, claimed = _ask_opacus(epsilon, delta)
    exact = gaussian_epsilon(multiplier, delta)
    if not exact - _SLACK <= claimed <= epsilon:
        raise AuditError(
            f"opacus claims epsilon {claimed:.4f} for a noise multiplier of {multiplier:.4f}; "
            f"{epsilon:g} was asked for, and the exact value is {exact:.4f}",
            "install the version of opacus that constraints.txt names",
        )
    return Noise(multiplier, claimed, delta, ACCOUNTANT, f"opacus {version('opacus')}")


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Least delta for epsilon of a Gaussian mechanism of sensitivity 1, exactly.

    Balle and Wang (ICML 2018), theorem 8: with s the noise multiplier,
    delta = Phi(1 / 2s - epsilon s) - exp(epsilon) Phi(-1 / 2s - epsilon s).
    """
    half, shift = 0.5 / noise_multiplier, epsilon * noise_multiplier
    tail = math.exp(min(epsilon + float(log_ndtr(-half - shift)), 0.0))
    return max(0.0, float(ndtr(half - shift)) - tail)


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Least epsilon for delta of a Gaussian mechanism of sensitivity 1, exactly (see above)."""
    if gaussian_delta(noise_multiplier, 0.0) <= delta:
        return 0.0
    # At this epsilon the first term alone is below delta: Phi(-x) <= exp(-x x / 2).
    x = math.sqrt(-2 * math.log(delta))
    highest = (0.5 / noise_multiplier + x) / noise_multiplier
    found = brentq(lambda e: gaussian_delta(noise_multiplier, e) - delta, 0.0, highest)
    return float(found)


def compose(spent: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Epsilon and delta of several releases about the same patient: both add up.

    Basic composition (Dwork et al., EUROCRYPT 2006, theorem 1). It holds whatever was released
    and however a later release was chosen in sight of an earlier one.
    """
    return math.fsum(epsilon for epsilon, _ in spent), math.fsum(delta for _, delta in spent)


def compose_gaussian(noise_multipliers: Sequence[float], delta: float) -> float:
    """Epsilon of several Gaussian mechanisms of sensitivity 1 about the same patient, at delta.

    Less than `compose`: together they are one mechanism whose squared inverse noise is the sum of
    theirs (Dong, Roth and Su, JRSS B 2022, corollary 3.3). Their noises must be independent.
    """
    if not noise_multipliers:
        return 0.0
    precision = math.fsum(multiplier**-2 for multiplier in noise_multipliers)
    return gaussian_epsilon(precision**-0.5, delta)


def _ask_opacus(epsilon: float, delta: float) -> tuple[float, float]:
    """Noise multiplier and claimed epsilon. Imported here: opacus takes seconds to import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import create_accountant
        from opacus.accountants.utils import get_noise_multiplier

        error = min(0.01, epsilon / 20)
        multiplier = get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=1.0, steps=1,
            accountant=ACCOUNTANT, epsilon_tolerance=error / 10, eps_error=error,
        )  # fmt: skip
        accountant = create_accountant(ACCOUNTANT)
        accountant.history = [(multiplier, 1.0, 1)]
        claimed = accountant.get_epsilon(delta=delta, eps_error=error)
    return float(multiplier), float(claimed)


def _check(epsilon: float, delta: float) -> None:
    low, high = EPSILON_RANGE
    if not low <= epsilon <= high:
        raise SettingsError(
            f"epsilon = {epsilon!r} is not between {low:g} and {high:g}",
            "use a value such as 1, 3 or 8",
        )
    if not 0 < delta < 1:
        raise SettingsError(f"delta = {delta!r} is not between 0 and 1", "use a value such as 1e-5")
