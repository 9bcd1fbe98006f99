"""Several results in one figure: the mean over data sets, and the difference of two encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import Ints
from pixcell_share.evaluation.metrics import METRICS, Values, scores
from pixcell_share.evaluation.result import EvaluationResult
from pixcell_share.privacy.intervals import Estimate

RESAMPLES = 2000
"""Draws of the bootstrap of a difference."""
_BATCH_NUMBERS = 1 << 22


def mean_over_datasets(
    results: Sequence[EvaluationResult], metric: str = "balanced_accuracy"
) -> Estimate:
    """The mean of a figure over data sets, each weighing the same, as the paper's table 1 has it.

    The interval takes the data sets as they are (it does not say what other data sets would give)
    and their errors for independent: half-widths are added in squares.

    Args:
        results: of one encoder and one task (k-NN or linear probe), one for each data set.
        metric: one of `METRICS`.

    Raises:
        DataError: no result, a data set twice, or results of several encoders or tasks.
    """
    kinds = {(result.task, result.encoder) for result in results}
    if len(kinds) != 1 or len({result.dataset for result in results}) != len(results):
        raise DataError(
            "these results have no common mean",
            "give results of one encoder and one task, one for each data set",
        )
    found = [result.figures[""][metric] for result in results]
    value = float(np.mean([each.value for each in found]))
    spread = np.sqrt(np.sum([((each.high - each.low) / 2) ** 2 for each in found])) / len(found)
    return Estimate(value, max(0.0, float(value - spread)), min(1.0, float(value + spread)))


def difference(
    labels: Ints,
    first: Ints,
    second: Ints,
    *,
    metric: str = "balanced_accuracy",
    groups: Ints | None = None,
    seed: int = 0,
) -> Estimate:
    """By how much the second encoder is better than the first on the same test tiles.

    Args:
        labels: (M,) true classes.
        first: (M,) classes that the first encoder led to.
        second: (M,) likewise.
        metric: one of `METRICS`.
        groups: (M,) number of the patient of each tile; None: each tile stands for itself.
        seed: of the bootstrap.

    Returns:
        The difference with its 95 % interval: percentile bootstrap over groups, both encoders
        judged by the same draws. An interval without 0 speaks for a difference on tiles like these.
    """
    alone = np.arange(len(labels))
    members = alone if groups is None else np.unique(groups, return_inverse=True)[1]
    classes = 1 + int(max(values.max() for values in (labels, first, second)))
    tables = np.stack([_tables(labels, named, members, classes) for named in (first, second)])
    row = METRICS.index(metric)

    def statistic(drawn: NDArray[Any], axis: int) -> Values:
        sums = _counts(drawn.astype(np.int64), tables.shape[1]) @ tables  # (2, draws, C²)
        one, two = scores(sums.reshape(2, -1, classes, classes).astype(np.int64))[row]
        return np.asarray(two - one)

    found = bootstrap(
        (np.arange(tables.shape[1]),),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // tables.shape[1]),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    value = statistic(np.arange(tables.shape[1])[None], -1)[0]
    return Estimate(float(value), float(low), float(high))


def _tables(labels: Ints, predicted: Ints, members: Ints, classes: int) -> Values:
    """(P, C²) table of counts of the tiles of each group, flattened."""
    codes = (members * classes + labels) * classes + predicted
    counts = np.bincount(codes, minlength=(int(members.max()) + 1) * classes**2)
    return counts.reshape(-1, classes**2).astype(np.float64)


def _counts(drawn: Ints, groups: int) -> Values:
    """(B, P) how often each draw (B, P) holds each group."""
    shifted = drawn + groups * np.arange(len(drawn))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=groups * len(drawn))
    return counts.reshape(len(drawn), groups).astype(np.float64)
