"""Results of evaluations as tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hub_server.registry import Evaluation
from hub_server.registry.leaderboard import Figure

TASKS: Mapping[str, str] = {
    "knn": "k-NN",
    "linear_probing": "linear probe",
    "simple_shot": "SimpleShot",
}
METRICS: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "f1": "macro F1",
    "jaccard": "Jaccard index",
}


@dataclass(frozen=True)
class ResultRow:
    """One evaluation."""

    encoder_id: str | None
    external: str | None
    """The name of an encoder from elsewhere."""
    dataset: str
    task: str
    """In words."""
    test_tiles: int
    figures: Mapping[str, Figure]
    """By metric; of SimpleShot with the most shots."""
    created_at: datetime


def results_of(evaluations: Iterable[Evaluation]) -> list[ResultRow]:
    """One row for each evaluation, in their order."""
    return [
        ResultRow(
            encoder_id=each.encoder_id,
            external=each.external,
            dataset=each.dataset,
            task=TASKS.get(each.task, each.task),
            test_tiles=each.result["dataset"]["sizes"].get("test", 0),
            figures=_figures(each),
            created_at=each.created_at,
        )
        for each in evaluations
    ]


def _figures(evaluation: Evaluation) -> dict[str, Figure]:
    by_shots = evaluation.result["figures"]
    last = by_shots[max(by_shots, key=lambda shots: int(shots or 0))]
    return {
        name: Figure(entry["value"], entry["low"], entry["high"])
        for name, entry in last.items()
        if name in METRICS
    }
