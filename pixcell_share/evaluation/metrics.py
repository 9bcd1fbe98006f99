"""Accuracy, balanced accuracy, F1 and Jaccard, macro-averaged, with the intervals of Thunder.

The figures are scikit-learn's to the last digit, and so Thunder's (thunder-bench 0.2.2), which are
scikit-learn's. They are computed from tables of counts, so that thousands of bootstrap draws cost
no more than a few single calls of scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from pixcell_share.privacy.intervals import Estimate

Ints = NDArray[np.int64]
Values = NDArray[np.float64]

METRICS = ("accuracy", "balanced_accuracy", "f1", "jaccard")
"""Names of the metrics, in the order of `scores`."""
RESAMPLES = 3000
"""Draws of the bootstrap, as in Thunder."""
_BATCH_NUMBERS = 1 << 22
"""Numbers that are drawn at a time: this bounds the memory, not the result."""


def confusion(labels: Ints, predicted: Ints) -> Ints:
    """(C, C) how many tiles of each true class (row) were given each class (column).

    Args:
        labels: (M,) true classes; M > 0.
        predicted: (M,)

    Returns:
        A table of the C classes that are true or predicted somewhere, in ascending order.
    """
    classes, codes = _codes(labels, predicted)
    table: Ints = _tables(codes[None], classes)[0]
    return table


def scores(tables: Ints) -> Values:
    """The `METRICS` (4, ...) of tables of counts (..., C, C), rows being the true classes.

    A class that is neither true nor predicted does not count; in balanced accuracy one that is not
    true does not either. The classes that count weigh the same.
    """
    hits = np.diagonal(tables, axis1=-2, axis2=-1).astype(np.float64)
    true, named = (tables.sum(axis=axis).astype(np.float64) for axis in (-1, -2))
    either = true + named
    with np.errstate(invalid="ignore"):
        each = hits / true, 2 * hits / either, hits / (either - hits)
    means = (
        _mean_of(values, present > 0)
        for values, present in zip(each, (true, either, either), strict=True)
    )
    return np.stack([hits.sum(axis=-1) / true.sum(axis=-1), *means])


def macro_f1(labels: Ints, predicted: Ints) -> float:
    """Mean over all classes, true or predicted, of ``2 TP / (2 TP + FP + FN)``."""
    return float(scores(confusion(labels, predicted))[METRICS.index("f1")])


def balanced_accuracy(labels: Ints, predicted: Ints) -> float:
    """Mean over the true classes of the share of their tiles that were recognised."""
    return float(scores(confusion(labels, predicted))[METRICS.index("balanced_accuracy")])


def estimates(labels: Ints, predicted: Ints, *, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Each of the `METRICS` with its 95 % interval.

    The interval is Thunder's: percentile bootstrap over tiles (true and predicted class together),
    of the same draws for every metric, by ``numpy.random.default_rng(0)``. It takes tiles for
    independent. Where several come from one patient it is too narrow:
    see `balanced_accuracy_by_patient`.

    Args:
        labels: (M,) true classes; M > 1.
        predicted: (M,)
        resamples: number of draws.
    """
    classes, codes = _codes(labels, predicted)

    def statistic(drawn: NDArray[Any], axis: int) -> Values:
        return scores(_tables(drawn.astype(np.int64), classes))

    found = bootstrap(
        (codes,),
        statistic,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // len(codes)),
        vectorized=True,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    values = scores(_tables(codes[None], classes)[0])
    interval = found.confidence_interval
    return {
        name: Estimate(float(value), float(low), float(high))
        for name, value, low, high in zip(METRICS, values, interval.low, interval.high, strict=True)
    }


def _codes(labels: Ints, predicted: Ints) -> tuple[int, Ints]:
    """Number of classes C, and (M,) one number ``true * C + predicted`` for each tile."""
    names, numbers = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    true, named = np.split(numbers.reshape(-1).astype(np.int64), 2)
    return len(names), true * len(names) + named


def _tables(codes: Ints, classes: int) -> Ints:
    """(B, C, C) counts of the codes (B, M) of each draw."""
    draws, cells = len(codes), classes * classes
    shifted = codes + cells * np.arange(draws)[:, None]
    counts = np.bincount(shifted.ravel(), minlength=draws * cells)
    return counts.reshape(draws, classes, classes)


def _mean_of(values: Values, present: NDArray[np.bool_]) -> Values:
    """Mean over the last axis of what is present.

    Zeros in place of what is missing would change the order of the additions and so, sometimes,
    the last digit; therefore a line with a class missing is averaged on its own.
    """
    means: Values = np.asarray(values.mean(axis=-1))
    for line in map(tuple, np.argwhere(~present.all(axis=-1))):
        means[line] = values[line][present[line]].mean()
    return means
