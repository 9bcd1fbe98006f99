"""The geometry of the charts of both pages; the templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 50


@dataclass(frozen=True)
class StageTime:
    """Busy time of one stage."""

    name: str
    seconds: float
    units: int
    unit: str = "tiles"

    @property
    def rate(self) -> float:
        """Units a second; 0 where nothing was measured."""
        return self.units / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Column:
    """One column of a histogram, as shares of the chart's width and height."""

    left: float
    width: float
    height: float
    low: float
    high: float
    count: int
    over: bool
    """Whether it lies at or above the limit."""


@dataclass(frozen=True)
class Histogram:
    """Scores counted in equal steps from ``low`` to 1, where the last step includes 1."""

    columns: tuple[Column, ...]
    """Those that are not empty."""
    ticks: tuple[tuple[float, float], ...]
    """Place as a share of the width, and score."""
    limit: float
    limit_place: float
    tallest: int
    count: int
    median: float
    highest: float
    over: int
    """Scores at or above the limit."""


@dataclass(frozen=True)
class Bar:
    """One stage in the time chart."""

    stage: StageTime
    left: float
    """Where it begins, as a share of the whole."""
    share: float


def histogram(scores: NDArray[np.floating], limit: float) -> Histogram | None:
    """Count scores (N,); None where there are none.

    The axis begins at the highest tenth that leaves no score out.
    """
    if not len(scores):
        return None
    low = min(0.9, float(np.floor(min(float(scores.min()), limit) * 10) / 10))
    counts, edges = np.histogram(np.clip(scores, low, 1.0), bins=_BINS, range=(low, 1.0))
    tallest = int(counts.max())
    columns = tuple(
        Column(
            left=place / _BINS,
            width=1 / _BINS,
            height=int(count) / tallest,
            low=float(edges[place]),
            high=float(edges[place + 1]),
            count=int(count),
            over=bool(edges[place] >= limit - 1e-9),
        )
        for place, count in enumerate(counts)
        if count
    )
    return Histogram(
        columns=columns,
        ticks=tuple((_place(tick, low), float(tick)) for tick in np.linspace(low, 1.0, 5)),
        limit=limit,
        limit_place=_place(limit, low),
        tallest=tallest,
        count=len(scores),
        median=float(np.median(scores)),
        highest=float(scores.max()),
        over=int((scores >= limit).sum()),
    )


def _place(score: float, low: float) -> float:
    return min(1.0, max(0.0, (score - low) / (1.0 - low)))


def time_bars(times: Sequence[StageTime]) -> list[Bar]:
    """The stages as parts of one bar, in order; empty where no time was measured."""
    total = sum(stage.seconds for stage in times)
    bars: list[Bar] = []
    left = 0.0
    for stage in times if total else ():
        bars.append(Bar(stage, left, stage.seconds / total))
        left += stage.seconds / total
    return bars
