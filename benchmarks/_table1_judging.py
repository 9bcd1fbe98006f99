"""How the encoders do on tiles of groups that none has seen; intervals by group and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.encoders import load_encoder
from pixcell_share.evaluation import EmbeddedDataset, ImageDataset, embed_dataset, run_task
from pixcell_share.evaluation.metrics import METRICS, scores
from pixcell_share.privacy.intervals import Estimate

TASKS = ("knn", "linear_probing")
DATASETS = ("A", "B", "A to B")
"""Stain of the labelled tiles and of the tiles that are classified: the same, or A and then B."""
_DRAWS = 2000
_ROW = METRICS.index("balanced_accuracy")

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
Predictions = dict[str, Ints]
"""(M,) class of each test tile, by ``task/dataset``."""


@dataclass(frozen=True)
class Line:
    """One encoder, over all seeds."""

    name: str
    figures: Mapping[str, Estimate]
    """Balanced accuracy by ``task/dataset``, and the means by task and of all (``mean``)."""
    seeds: tuple[float, ...]
    """``mean`` of each seed."""


@dataclass(frozen=True)
class Difference:
    """Of the means of two encoders, on the same draws of groups."""

    first: str
    second: str
    second_minus_first: Estimate


def predict(encoder: str, stains: Mapping[str, ImageDataset], work: Path, key: str) -> Predictions:
    """What an encoder leads to; kept in ``work`` under ``key``."""
    kept = work / "predictions" / f"{key}.npz"
    if kept.exists():
        with np.load(kept) as found:
            return {name: found[name] for name in found.files}
    loaded = load_encoder(encoder)
    own = {s: embed_dataset(loaded, data, work / "embeddings") for s, data in stains.items()}
    mixed = EmbeddedDataset("A to B", own["A"].train, own["A"].val, own["B"].test)
    datasets = {"A": own["A"], "B": own["B"], "A to B": mixed}
    predicted = {
        f"{task}/{name}": run_task(task, datasets[name]).predicted[""]
        for task in TASKS
        for name in DATASETS
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, allow_pickle=False, **predicted)
    return predicted


class Judge:
    """Intervals over test groups and seeds: all encoders and tasks are judged by the same draws.

    Both are drawn anew, as two encoders that differ in their seed alone differ too. A seed means
    the same start for all arms, so differences are taken seed by seed.

    Args:
        labels: (M,) classes of the test tiles.
        groups: (M,) number of each tile's group.
    """

    def __init__(self, labels: Ints, groups: Ints) -> None:
        self._labels, self._groups = labels, groups
        self._classes, self._count = int(labels.max()) + 1, int(groups.max()) + 1
        drawn = np.random.default_rng(0).integers(self._count, size=(_DRAWS, self._count))
        # (1 + draws, groups): how often each group counts; first the groups as they are.
        counts = [np.bincount(row, minlength=self._count) for row in drawn]
        self._weights = np.stack([np.ones(self._count, np.int64), *counts])

    def line(self, name: str, seeds: Sequence[Predictions]) -> Line:
        """The figures of an encoder, means over its seeds."""
        drawn = self._values(seeds)
        figures = {key: self._estimate(values) for key, values in drawn.items()}
        return Line(name, figures, tuple(float(value) for value in drawn["mean"][:, 0]))

    def difference(
        self, names: tuple[str, str], first: Sequence[Predictions], second: Sequence[Predictions]
    ) -> Difference:
        """By how much the second is better, in the mean over tasks, data sets and seeds."""
        one, two = (self._values(each)["mean"] for each in (first, second))
        return Difference(*names, self._estimate(two - one))

    def _values(self, seeds: Sequence[Predictions]) -> dict[str, Values]:
        """(S, 1 + draws) balanced accuracy of each seed, by task and data set."""
        found = {
            f"{task}/{name}": np.stack([self._accuracy(each[f"{task}/{name}"]) for each in seeds])
            for task in TASKS
            for name in DATASETS
        }
        means = {
            task: np.mean([found[f"{task}/{name}"] for name in DATASETS], axis=0) for task in TASKS
        }
        return {**found, **means, "mean": np.mean(list(means.values()), axis=0)}

    def _accuracy(self, predicted: Ints) -> Values:
        """(1 + draws,) balanced accuracy."""
        cells = self._classes**2
        codes = (self._groups * self._classes + self._labels) * self._classes + predicted
        tables = np.bincount(codes, minlength=self._count * cells).reshape(self._count, cells)
        sums = (self._weights @ tables).reshape(-1, self._classes, self._classes)
        return np.asarray(scores(sums)[_ROW])

    def _estimate(self, values: Values) -> Estimate:
        """The mean over seeds of values (S, 1 + draws), and the percentiles of the draws."""
        seeds = len(values)
        drawn = np.random.default_rng(1).multinomial(seeds, [1 / seeds] * seeds, size=_DRAWS)
        weights = np.concatenate([np.ones((1, seeds), np.int64), drawn]).T
        means = (values * weights).sum(axis=0) / seeds
        low, high = np.percentile(means[1:], [2.5, 97.5])
        return Estimate(float(means[0]), float(low), float(high))
