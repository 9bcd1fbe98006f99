"""How often an attack on patients succeeds: ranks, declared patients, area under the curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy.bootstrap import DRAWS, Resample, share_of
from pixcell_share.privacy.intervals import Estimate

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

_NUMBERS = 1 << 24
"""Numbers held at once while bootstrapping."""


def outside_ranks(scores: Values, outside: Values) -> Values:
    """Conformal p-value (M,) of each score against those of patients outside (H,).

    p = (1 + #{h: s_h >= s}) / (1 + H): for a patient from the same population as those outside it
    is at most alpha with probability at most alpha (Vovk, Gammerman & Shafer, Algorithmic Learning
    in a Random World, 2005, prop. 2.4). Equal scores count against the attacker, for members and
    controls alike.
    """
    ordered = np.sort(outside)
    reached = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + reached) / (1.0 + len(ordered)), dtype=np.float64)


def left_out_ranks(outside: Values) -> Values:
    """The same (H,) for each patient outside, against the other H - 1 of them."""
    ordered = np.sort(outside)
    reached = len(ordered) - np.searchsorted(ordered, outside, side="left")
    return np.asarray(reached / max(len(ordered), 1), dtype=np.float64)


def auc(positives: Values, negatives: Values) -> float:
    """Chance that a positive (M,) scores above a negative (H,); ties count one half.

    The Mann-Whitney form of the area under the receiver operating curve (Hanley & McNeil,
    Radiology 143, 1982). Both must hold a score.
    """
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    upto = np.searchsorted(ordered, positives, side="right")
    return float((below + upto).mean() / (2 * len(ordered)))


def auc_by_patient(
    positives: Values,
    negatives: Values,
    positive_patients: Ints,
    negative_patients: Ints,
    *,
    seed: int,
    draws: int = DRAWS,
) -> Estimate:
    """`auc` with its interval: patients of both sides drawn apart, with all scores of each."""
    rng = np.random.default_rng(seed)
    ours = Resample.of(positive_patients, rng, draws)
    theirs = Resample.of(negative_patients, rng, draws)
    drawn = drawn_auc(positives, negatives, ours, theirs)
    return share_of(auc(positives, negatives), drawn, min(ours.patients, theirs.patients))


def drawn_auc(positives: Values, negatives: Values, ours: Resample, theirs: Resample) -> Values:
    """(D,) `auc` in each draw, one half where a draw holds none of one side.

    Memory is bounded, whatever the number of scores.
    """
    order = np.argsort(negatives, kind="stable")
    below = np.searchsorted(negatives[order], positives, side="left")
    upto = np.searchsorted(negatives[order], positives, side="right")
    step = max(1, _NUMBERS // (len(positives) + len(negatives)))
    found = []
    for start in range(0, len(ours.counts), step):
        part = slice(start, start + step)
        weights = theirs.of_tiles(part)[:, order]
        passed = np.concatenate([np.zeros((len(weights), 1)), weights.cumsum(axis=1)], axis=1)
        mine = ours.of_tiles(part)
        won = (mine * (passed[:, below] + passed[:, upto])).sum(axis=1) / 2
        pairs = mine.sum(axis=1) * passed[:, -1]
        found.append(np.divide(won, pairs, out=np.full(len(won), 0.5), where=pairs > 0))
    return np.concatenate(found)
