"""How encoders compare, over datasets.

Read here of a result (``pixcell_share.evaluation.EvaluationResult``) are only the figures,
``result["figures"][shots][metric] = {"value": v, "low": l, "high": h}``; of SimpleShot those with
the most shots.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.registry.tables import Encoder, Evaluation


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One encoder."""

    encoder: str
    encoder_id: str | None
    """None for an encoder from elsewhere."""
    figures: Mapping[str, Figure]
    """By dataset; a dataset on which it was not evaluated is not in it."""
    mean: Figure | None
    """Over all datasets of the board; None where one is missing: means over different datasets do
    not compare."""


@dataclass(frozen=True)
class Leaderboard:
    """Encoders, the best mean first, those without a mean last."""

    task: str
    metric: str
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]


def leaderboard(
    session: Session,
    task: str = "knn",
    metric: str = "balanced_accuracy",
    datasets: Sequence[str] | None = None,
) -> Leaderboard:
    """The latest result of each encoder on each dataset.

    Args:
        session: of the registry.
        task: ``knn``, ``linear_probing`` or ``simple_shot``.
        metric: a name in the results.
        datasets: which ones, and in which order; by default all that have a result, by name. Data
            that differ and have one name are shown apart, as ``name (digest)``.
    """
    found = _latest(session, task, metric)
    names = {dataset for _, figures in found.values() for dataset in figures}
    shown = tuple(datasets) if datasets is not None else tuple(sorted(names))
    rows = [_row(key, encoder_id, figures, shown) for key, (encoder_id, figures) in found.items()]
    rows = [row for row in rows if row.figures]
    return Leaderboard(task, metric, shown, tuple(sorted(rows, key=_rank)))


def _latest(
    session: Session, task: str, metric: str
) -> dict[str, tuple[str | None, dict[str, Figure]]]:
    """Figures by dataset, by the name of the encoder; later ones take the place of earlier."""
    wanted = (
        select(Evaluation, Encoder.name)
        .join(Encoder, Evaluation.encoder_id == Encoder.id, isouter=True)
        .where(Evaluation.task == task)
        .order_by(Evaluation.created_at, Evaluation.id)
    )
    rows = session.execute(wanted).all()
    label = _labels(evaluation for evaluation, _ in rows)
    found: dict[str, tuple[str | None, dict[str, Figure]]] = {}
    for evaluation, name in rows:
        if figure := figure_of(evaluation.result, metric):
            encoder = name or evaluation.external or ""
            figures = found.setdefault(encoder, (evaluation.encoder_id, {}))[1]
            figures[label[evaluation.dataset, evaluation.dataset_digest]] = figure
    return found


def _labels(evaluations: Iterable[Evaluation]) -> dict[tuple[str, str], str]:
    """What each dataset is called: its name, and its digest too where other data have the name."""
    known = {(evaluation.dataset, evaluation.dataset_digest) for evaluation in evaluations}
    times = Counter(name for name, _ in known)
    return {
        (name, digest): name if times[name] == 1 else f"{name} ({digest[:8]})"
        for name, digest in known
    }


def figure_of(result: Mapping[str, Any], metric: str = "balanced_accuracy") -> Figure | None:
    """What a result says in ``metric``; None where it does not measure that."""
    by_shots = result["figures"]
    entry = by_shots[max(by_shots, key=lambda shots: int(shots or 0))].get(metric)
    return Figure(entry["value"], entry["low"], entry["high"]) if entry else None


def _row(
    encoder: str, encoder_id: str | None, figures: Mapping[str, Figure], datasets: tuple[str, ...]
) -> Row:
    shown = {name: figures[name] for name in datasets if name in figures}
    whole = len(shown) == len(datasets) and datasets
    return Row(encoder, encoder_id, shown, _mean(list(shown.values())) if whole else None)


def _mean(figures: list[Figure]) -> Figure:
    """The mean of independent figures, with the interval that theirs give (MOVER).

    Zou and Donner, Statistics in Medicine 27 (2008) 1693: the limits of a sum of independent
    estimates lie the root of the sum of the squared distances of theirs away.
    """
    n = len(figures)
    mean = math.fsum(figure.value for figure in figures) / n
    below = math.hypot(*(figure.value - figure.low for figure in figures)) / n
    above = math.hypot(*(figure.high - figure.value for figure in figures)) / n
    return Figure(mean, mean - below, mean + above)


def _rank(row: Row) -> tuple[bool, float, str]:
    return (row.mean is None, -row.mean.value if row.mean else 0.0, row.encoder)
