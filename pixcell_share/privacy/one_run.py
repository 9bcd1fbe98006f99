"""What epsilon is at least: an audit of a mechanism from one run of it.

Steinke, Nasr and Jagielski, *Privacy Auditing with One (1) Training Run* (NeurIPS 2023, arXiv
2305.08846). Each of m canaries is in or out by a fair coin; who sees the output guesses for some
of them. If the mechanism were (epsilon, delta)-private, at least v of r guesses would be right with
a probability of at most

    p = P[Binomial(r, q) >= v] + 2 m delta alpha,      q = 1 / (1 + exp(-epsilon)),
    alpha = max over i from 1 to v of P[v > Binomial(r, q) >= v - i] / i

(theorem 5.2 and appendix D there). The largest epsilon at which p stays below 5 % is the bound.
An audit can only ever show that epsilon is *at least* this; how much it could have shown
(`most_detectable`) belongs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from pixcell_share.errors import SettingsError
from pixcell_share.privacy._keyed import keyed_generator
from pixcell_share.privacy.dp_statistics import PatientSums, Weights, noised_sums

_PURPOSE = "pixcell-share one-run audit, version 1"
_HIGHEST = 100.0


@dataclass(frozen=True)
class OneRun:
    """Result of a one-run audit."""

    canaries: int
    """Canary patients, each in or out by a coin."""
    guesses: int
    """For how many of them a guess was made; fixed before the run."""
    correct: int
    """How many guesses were right."""
    delta: float
    epsilon_low: float
    """Epsilon is at least this, with 95 % confidence."""
    detectable: float
    """The most that this number of canaries and guesses could have shown."""


def audit_lower_bound(
    correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Largest epsilon that this many correct guesses rule out; 0 where they rule out none.

    Raises:
        ValueError: not 0 <= correct <= guesses <= canaries, or delta or confidence not in (0, 1).
    """
    if not 0 <= correct <= guesses <= canaries or not 0 <= delta < 1 or not 0 < confidence < 1:
        raise ValueError(f"{correct} of {guesses} of {canaries}, {delta}, {confidence}")

    def excess(epsilon: float) -> float:
        return _p_value(correct, guesses, canaries, epsilon, delta) - (1 - confidence)

    if correct == 0 or excess(0.0) >= 0:
        return 0.0
    return _HIGHEST if excess(_HIGHEST) < 0 else float(brentq(excess, 0.0, _HIGHEST))


def most_detectable(guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """The bound if every guess were right."""
    return audit_lower_bound(guesses, guesses, canaries, delta, confidence)


def audit_mechanism(
    noise_multiplier: float,
    delta: float,
    *,
    canaries: int,
    guesses: int,
    secret: bytes,
    weights: Weights | None = None,
) -> OneRun:
    """Audit the noised statistics of `dp_statistics` with canary patients.

    A canary is a patient with one tile, whose embedding is at right angles to every other
    canary's. The attacker knows all canaries, correlates the output with each, and says "in" for
    the highest half of ``guesses`` and "out" for the lowest half.

    Args:
        noise_multiplier: of the mechanism.
        delta: that it claims.
        canaries: m; the embeddings have that many dimensions.
        guesses: r, even; chosen before the run.
        secret: of the run: coins and noise follow from it.
        weights: of the mechanism.

    Raises:
        SettingsError: guesses is odd, below 2 or above the number of canaries.
    """
    if guesses % 2 or not 2 <= guesses <= canaries:
        raise SettingsError(
            f"{guesses} guesses on {canaries} canaries", "use an even number of at least 2"
        )
    weights = weights or Weights()
    inside = keyed_generator(secret, _PURPOSE, canaries).random(canaries) < 0.5
    chosen = np.flatnonzero(inside)
    embeddings = np.zeros((len(chosen), canaries), np.float32)
    embeddings[np.arange(len(chosen)), chosen] = 1.0
    sums = noised_sums(
        embeddings, chosen, np.zeros(len(chosen), np.int64), 1,
        noise_multiplier=noise_multiplier, weights=weights, secret=secret,
    )  # fmt: skip
    order = np.argsort(_scores(sums, weights), kind="stable")
    half = guesses // 2
    correct = int(inside[order[-half:]].sum() + (~inside[order[:half]]).sum())
    return OneRun(
        canaries, guesses, correct, delta,
        audit_lower_bound(correct, guesses, canaries, delta),
        most_detectable(guesses, canaries, delta),
    )  # fmt: skip


def _scores(sums: PatientSums, weights: Weights) -> NDArray[np.float64]:
    """(m,) correlation of the output with each canary's own vector (the i-th unit vector).

    Norms and counts are the same for all canaries and tell nothing of one.
    """
    scores: NDArray[np.float64] = weights.mean**2 * sums.means[0]
    return scores + weights.spread**2 * np.diag(sums.spread)


def _p_value(correct: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Highest probability of as many correct guesses under (epsilon, delta)."""
    chance = float(expit(epsilon))
    tail = float(binom.sf(correct - 1, guesses, chance))
    steps = np.arange(1, correct + 1)
    between = np.cumsum(binom.pmf(correct - steps, guesses, chance))
    alpha = float((between / steps).max())
    return min(1.0, tail + 2 * canaries * delta * alpha)
