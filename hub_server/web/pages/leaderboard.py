"""The leaderboard: a table of encoders by datasets, and a plot of one of its columns."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hub_server.registry.leaderboard import Figure, Row, leaderboard
from hub_server.web.charts import DotPlot, dot_plot
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody
from hub_server.web.results import METRICS, TASKS
from hub_server.web.state import hub_of

router = APIRouter(prefix="/leaderboard", include_in_schema=False)
MEAN = ""
"""The column of means, among datasets by name."""
Word = Annotated[str, Query(max_length=200)]


@router.get("")
def board(
    request: Request,
    person: Anybody,
    task: Word = "knn",
    metric: Word = "balanced_accuracy",
    by: Word = MEAN,
) -> Response:
    """Encoders, the best first in the chosen column."""
    task = task if task in TASKS else "knn"
    metric = metric if metric in METRICS else "balanced_accuracy"
    with hub_of(request).registry.reading() as session:
        found = leaderboard(session, task, metric)
    column = by if by in found.datasets else MEAN
    rows = sorted(found.rows, key=lambda row: _rank(row, column))
    return page(
        request,
        person,
        "leaderboard.html",
        board=found,
        rows=rows,
        column=column,
        plot=_plot(rows, column),
        tasks=TASKS,
        metrics=METRICS,
    )


def _plot(rows: list[Row], column: str) -> DotPlot | None:
    """Dots and intervals of a column; None where it is empty."""
    drawn = [(row.encoder, figure) for row in rows if (figure := _figure(row, column)) is not None]
    return dot_plot([(name, f.value, f.low, f.high) for name, f in drawn]) if drawn else None


def _figure(row: Row, column: str) -> Figure | None:
    return row.mean if column == MEAN else row.figures.get(column)


def _rank(row: Row, column: str) -> tuple[bool, float, str]:
    figure = _figure(row, column)
    return (figure is None, -figure.value if figure else 0.0, row.encoder)
