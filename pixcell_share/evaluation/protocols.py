"""Thunder's three protocols (Marza et al., NeurIPS 2025, arXiv:2507.07860; thunder-bench 0.2.2).

Each chooses on the validation part and tests once. From the same embeddings k-NN gives the same
figures as Thunder, digit for digit; so does SimpleShot with the same draws. The linear probe starts
from the same weights and sees the same batches, but adds in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation.embedded import EmbeddedDataset, Ints
from pixcell_share.evaluation.knn import KS
from pixcell_share.evaluation.linear_probe import LinearProbeSettings, train_probe
from pixcell_share.evaluation.metrics import estimates, macro_f1
from pixcell_share.evaluation.simple_shot import SHOTS, draw_few_shot, simple_shot_votes
from pixcell_share.evaluation.votes import Voters
from pixcell_share.privacy.intervals import Estimate


@dataclass(frozen=True)
class Outcome:
    """What a protocol found on the test part."""

    figures: Mapping[str, Mapping[str, Estimate]]
    """For each setting that was tested each of the `METRICS`. The setting is ``""``, but in
    SimpleShot the number of shots."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What the validation part chose: k, or learning rate, weight decay and epoch."""
    predicted: Mapping[str, Ints] = field(default_factory=dict, repr=False, compare=False)
    """(M,) class of each test tile, for each setting."""


def knn(dataset: EmbeddedDataset) -> Outcome:
    """k-NN with the k of `KS` that has the best macro-F1 on the validation part.

    Of equal ones the smallest; a k above the number of training tiles takes all of them.
    """
    train, val, test = dataset.train, dataset.val, dataset.test
    voters = Voters(train.embeddings, train.labels)
    found = voters.votes(val.embeddings, KS)
    best = max(KS, key=lambda k: macro_f1(val.labels, found[k]))  # the first of equal ones
    predicted = voters.votes(test.embeddings, (best,))[best]
    return Outcome({"": estimates(test.labels, predicted)}, {"k": best}, {"": predicted})


def linear_probe(
    dataset: EmbeddedDataset,
    settings: LinearProbeSettings = LinearProbeSettings(),  # noqa: B008
) -> Outcome:
    """The best of several linear classifiers and epochs by macro-F1 on the validation part."""
    probe = train_probe(dataset, settings)
    predicted = probe.predict(dataset.test.embeddings)
    chosen = {"lr": probe.lr, "weight_decay": probe.weight_decay, "epoch": probe.epoch}
    return Outcome({"": estimates(dataset.test.labels, predicted)}, chosen, {"": predicted})


def simple_shot(dataset: EmbeddedDataset) -> Outcome:
    """SimpleShot with `SHOTS` tiles of each class, each test tile by the vote of all draws.

    The validation part is not used. Draws are those of the split where it has some, else ours.
    """
    draws = dataset.few_shot or draw_few_shot(dataset.train.labels, SHOTS)
    predicted = {
        str(shots): simple_shot_votes(dataset.train, rows, dataset.test.embeddings)
        for shots, rows in draws.rows.items()
    }
    figures = {shots: estimates(dataset.test.labels, named) for shots, named in predicted.items()}
    return Outcome(figures, {}, predicted)


TASKS: Mapping[str, Callable[[EmbeddedDataset], Outcome]] = {
    "knn": knn,
    "linear_probing": linear_probe,
    "simple_shot": simple_shot,
}
"""Each protocol by Thunder's name for it."""


def run_task(task: str, dataset: EmbeddedDataset) -> Outcome:
    """Run one of the `TASKS`.

    Raises:
        SettingsError: there is no such task.
        DataError: the test part is one tile, or a class has too few tiles for the task.
    """
    if task not in TASKS:
        raise SettingsError(f"there is no task {task!r}", f"choose one of {', '.join(TASKS)}")
    if len(dataset.test) < 2:
        raise DataError(
            f"{dataset.name} has one test tile, and no interval can be computed",
            "give more test tiles",
        )
    return TASKS[task](dataset)
