"""Can tiles that a generator was trained on be told from tiles of other patients?

Only weights that were trained on a site's own tiles are asked: what a public generator was merely
*conditioned* on has left no trace in it. The attacks read `membership_scores`; what counts is the
share of members found while hardly anyone else is suspected (Carlini et al., S&P 2022,
arXiv:2112.03570), not the average. Intervals resample patients, since tiles of one patient are
alike; with fewer than about twenty patients on a side they are too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.privacy.bootstrap import DRAWS, Resample, percentile, share_of
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.membership_scores import MembershipScores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHA = 0.9
"""Weight of the gain beside the loss in CLiD's threshold. Zhai et al. choose it on a shadow model;
an audit has none, so it is fixed."""
_RATES = (0.01, 0.001)
_BLOCK = 2**24
"""Numbers held at once while bootstrapping."""


@dataclass(frozen=True)
class Curve:
    """How well one score tells members from others. All intervals are bootstraps by patient."""

    auc: Estimate
    """Chance that a member scores above another tile; 0.5 says nothing, ties count half."""
    tpr_1: Estimate
    """Share of members found at the threshold that at most 1 % of the others pass."""
    tpr_01: Estimate
    """The same at 0.1 %."""
    resolvable_1: bool
    """Whether there are 100 others: with fewer, the threshold is the largest of their scores, and
    the rate at which they pass it is below 1/n, which may be more or less than 1 %."""
    resolvable_01: bool
    """The same for 0.1 %: whether there are 1000."""

    def figures(self, name: str) -> dict[str, float]:
        """For `AuditTest`: nine figures whose names begin with ``name``."""
        values: dict[str, float] = {}
        for key in ("auc", "tpr_1", "tpr_01"):
            estimate: Estimate = getattr(self, key)
            values[f"{name}_{key}"] = estimate.value
            values[f"{name}_{key}_low"] = estimate.low
            values[f"{name}_{key}_high"] = estimate.high
        return values


@dataclass(frozen=True)
class Membership:
    """What both attacks found."""

    members: int
    """Tiles that the weights were trained on."""
    nonmembers: int
    """Tiles of patients that were held out."""
    member_patients: int
    nonmember_patients: int
    loss: Curve
    """By the denoising error alone."""
    clid: Curve
    """By gain and error together (`clid_score`)."""

    def figures(self) -> dict[str, float | int]:
        """For `AuditTest`: counts of tiles, and each curve's figures."""
        counts = {"members": self.members, "nonmembers": self.nonmembers}
        return {**counts, **self.loss.figures("loss"), **self.clid.figures("clid")}


def infer_membership(
    member: MembershipScores,
    member_patients: Ints,
    other: MembershipScores,
    other_patients: Ints,
    *,
    seed: int,
) -> Membership:
    """Attack with both scores.

    Args:
        member: of N tiles that the weights were trained on.
        member_patients: (N,) number of the patient of each.
        other: of M tiles of patients that they were not trained on.
        other_patients: (M,)
        seed: of the bootstrap.

    Raises:
        AuditError: a group is empty, or a patient is in both.
    """
    shared = np.intersect1d(member_patients, other_patients)
    if len(shared):
        raise AuditError(
            f"{len(shared)} patients are among the members and among the others",
            "hold out whole patients: `pixcell-train latents --holdout-by slide` with a table",
        )
    pairs = (-member.loss, -other.loss), clid_score(member, other)
    curves = [curve(mine, member_patients, theirs, other_patients, seed=seed)
              for mine, theirs in pairs]  # fmt: skip
    return Membership(
        members=len(member),
        nonmembers=len(other),
        member_patients=len(np.unique(member_patients)),
        nonmember_patients=len(np.unique(other_patients)),
        loss=curves[0],
        clid=curves[1],
    )


def clid_score(member: MembershipScores, other: MembershipScores) -> tuple[Floats, Floats]:
    """CLiD's thresholding score of both groups, larger for members.

    ``alpha S(gain) + (1 - alpha) S(-loss)``, where S takes away the median and divides by the
    distance of the quartiles (Zhai et al., arXiv:2405.14800, section 3: "CLiD_th"). They fit S on
    a shadow model; here it is fitted on both groups together, which knows no membership either.
    """
    gain = _robust(np.concatenate([member.gain, other.gain]))
    loss = _robust(-np.concatenate([member.loss, other.loss]))
    score = ALPHA * gain + (1 - ALPHA) * loss
    return score[: len(member)], score[len(member) :]


def _robust(values: Floats) -> Floats:
    if not len(values):
        return values
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    scaled: Floats = (values - middle) / ((high - low) or 1.0)
    return scaled


def curve(
    member: Floats,
    member_patients: Ints,
    other: Floats,
    other_patients: Ints,
    *,
    seed: int,
    draws: int = DRAWS,
) -> Curve:
    """How well a score that is larger for members tells them from others.

    Args:
        member: (N,) scores of members.
        member_patients: (N,)
        other: (M,) scores of others.
        other_patients: (M,)
        seed: of the bootstrap.
        draws: of the bootstrap; patients of both groups are drawn apart.

    Raises:
        AuditError: a group is empty, or a score is not finite.
    """
    if not (len(member) and len(other)):
        raise AuditError(
            f"membership needs tiles of both kinds: there are {len(member)} members and "
            f"{len(other)} others",
            "give stores with training and held-out regions",
        )
    if not (np.isfinite(member).all() and np.isfinite(other).all()):
        raise AuditError("a membership score is not finite", "run again with --dtype fp32")
    rng = np.random.default_rng(seed)
    mine = Resample.of(member_patients, rng, draws)
    theirs = Resample.of(other_patients, rng, draws)
    (auc, tpr_1, tpr_01), *_ = values = _Ranks(member, other).resampled(mine, theirs)
    return Curve(
        auc=percentile(auc, values[1:, 0]),
        tpr_1=share_of(tpr_1, values[1:, 1], mine.patients),
        tpr_01=share_of(tpr_01, values[1:, 2], mine.patients),
        resolvable_1=allowed(_RATES[0], len(other)) > 0,
        resolvable_01=allowed(_RATES[1], len(other)) > 0,
    )


def allowed(rate: float, count: float) -> int:
    """How many of ``count`` others may pass at a false positive rate of at most ``rate``."""
    return math.floor(rate * count + 1e-9)  # 0.001 * 3000 is a little below 3


class _Ranks:
    """Both groups sorted once; every bootstrap draw only weighs them anew."""

    def __init__(self, member: Floats, other: Floats) -> None:
        self._order, self._other_order = np.argsort(member), np.argsort(other)
        self._member, self._other = member[self._order], other[self._other_order]
        self._below = np.searchsorted(self._other, self._member, side="left")
        self._upto = np.searchsorted(self._other, self._member, side="right")
        # Members up to each of the others' scores: where a threshold cuts them.
        self._cut = np.searchsorted(self._member, self._other, side="right")

    def resampled(self, mine: Resample, theirs: Resample) -> Floats:
        """(1 + D, 3): AUC and both rates, of the groups as they are and of each draw."""
        found = [self._figures(np.ones((1, len(self._member))), np.ones((1, len(self._other))))]
        draws = len(mine.counts)
        step = max(1, _BLOCK // (len(self._member) + len(self._other)))
        for start in range(0, draws, step):
            part = slice(start, start + step)
            weights = mine.of_tiles(part)[:, self._order]
            found.append(self._figures(weights, theirs.of_tiles(part)[:, self._other_order]))
        return np.concatenate(found)

    def _figures(self, mine: Floats, theirs: Floats) -> Floats:
        """(B, 3) from weights (B, N) and (B, M) of the sorted groups."""
        member, other = _cumulated(mine), _cumulated(theirs)
        wins = 0.5 * (other[:, self._below] + other[:, self._upto])
        auc = (mine * wins).sum(axis=1) / (member[:, -1] * other[:, -1])
        rates = [self._found(member, other, rate) for rate in _RATES]
        return np.stack([auc, *rates], axis=1)

    def _found(self, member: Floats, other: Floats, rate: float) -> Floats:
        """(B,) weight of members above the lowest threshold that few enough others pass."""
        total = other[:, -1:]
        above = total - other[:, 1:]  # weight of the others after each one in the order
        enough = above <= np.floor(rate * total + 1e-9)
        threshold = enough.argmax(axis=1)
        below = np.take_along_axis(member, self._cut[threshold][:, None], axis=1)[:, 0]
        share: Floats = 1 - below / member[:, -1]
        return share


def _cumulated(weights: Floats) -> Floats:
    """(B, N + 1): weight of the first n tiles."""
    return np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
