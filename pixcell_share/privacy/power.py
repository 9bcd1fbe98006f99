"""What an audit of this size could have noticed: the power table.

No figure here looks at data. All of it is computed from numbers of patients, by the exact binomial
distribution, so that the report can say "would have noticed a residual above x". What a one-run
audit of differential privacy could show at most: `one_run.most_detectable`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.stats import beta, binom

from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.residual import Residual

ALARM = 0.1
"""Share of patients outside the cohort whom the linkage attack may declare in by mistake."""
MISS = 0.05
_MOST_HOLDOUT = 1 << 14
_NODES = 200
_STEPS = 12


def upper_bound_of_none(patients: int, miss: float = MISS) -> float:
    """Largest rate that no success in ``patients`` still allows, at confidence 1 - ``miss``.

    1 - miss^(1/n): the exact form of the rule of three (Hanley & Lippman-Hand, JAMA 249, 1983).
    """
    return float(1.0 - miss ** (1.0 / patients)) if patients > 0 else 1.0


def threshold_rank(holdout: int, alarm: float = ALARM) -> int:
    """k = floor(alarm n): a patient is declared in who scores above the k-th highest of n outside.

    0 means that nobody can be declared in: too few patients were set aside (fewer than 1 / alarm).
    """
    return int(np.floor(alarm * holdout + 1e-9))


def detectable_residual(
    patients: int, holdout: int, alarm: float = ALARM, power: float = 0.8
) -> float:
    """The smallest residual risk that the linkage test would have noticed.

    Noticed: the interval of `Residual` lies above 0. The model: a share R of the patients in the
    cohort is linked for certain, the others score as the patients set aside do. The threshold is
    the k-th highest of n patients set aside, so the share F of outsiders above it has a Beta(k,
    n + 1 - k) distribution (order statistics: David & Nagaraja 2003, sec. 2.3), and the attack
    declares Binomial(patients, R + (1 - R) F) patients in, the control k = floor(alarm n) of n.

    Args:
        patients: patients of the cohort who are attacked.
        holdout: patients set aside.
        alarm: the attack's rate of false alarms.
        power: the share of such audits that must notice it.

    Returns:
        The residual, up to 1 / 4096; 1.0 where even R = 1 would go unnoticed.
    """
    rank = threshold_rank(holdout, alarm)
    needed = _least_noticed(patients, holdout, rank)
    if needed is None:
        return 1.0
    middles = (np.arange(_NODES) + 0.5) / _NODES
    false = beta.ppf(middles, rank, holdout + 1 - rank)
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        noticed = binom.sf(needed - 1, patients, middle + (1 - middle) * false).mean()
        low, high = (low, middle) if noticed >= power else (middle, high)
    return high


@cache
def _least_noticed(patients: int, holdout: int, rank: int) -> int | None:
    """Fewest patients declared in for which the interval lies above 0; None where none do."""
    control = Share(rank, holdout)
    if rank < 1 or not Residual(Share(patients, patients), control).estimate.low > 0:
        return None
    low, high = 0, patients
    while high - low > 1:
        middle = (low + high) // 2
        noticed = Residual(Share(middle, patients), control).estimate.low > 0
        low, high = (low, middle) if noticed else (middle, high)
    return high


def holdout_needed(
    residual: float, patients: int, alarm: float = ALARM, power: float = 0.8
) -> int | None:
    """The fewest patients to set aside so that ``residual`` would be noticed.

    Args:
        residual: what must not go unnoticed.
        patients: patients of the site, of whom the rest stay in the cohort.
        alarm: as in `detectable_residual`.
        power: as in `detectable_residual`.

    Returns:
        The number, of at most half of the patients; None where no such number suffices.
    """
    most = min(patients // 2, _MOST_HOLDOUT)
    step = max(1, round(1 / alarm))
    for holdout in range(step, most + 1, step):
        if detectable_residual(patients - holdout, holdout, alarm, power) <= residual:
            return holdout
    return None
