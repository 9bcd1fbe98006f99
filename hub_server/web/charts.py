"""The geometry of the hub's charts; the templates draw them as SVG.

Places are percentages of a chart's width or height, so that a chart fills the room it has while its
text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = 5
_POINTS = 400
"""Of a curve, at most: more than the pixels of a chart tell apart."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot."""

    name: str
    text: str
    """Value and interval in words."""
    place: float
    low: float
    high: float


@dataclass(frozen=True)
class DotPlot:
    """Shares with their intervals, over one axis in percent."""

    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Curve:
    """A figure over the steps of a training."""

    title: str
    points: str
    """``x,y x,y ...`` in a square of 100 by 100, y downwards; gaps are left out."""
    across: tuple[Tick, ...]
    """Steps."""
    up: tuple[Tick, ...]
    """Values; a place is measured from the top."""
    first: float
    last: float
    last_text: str
    summary: str
    """The curve in a sentence, for those who do not see it."""


def dot_plot(rows: Sequence[tuple[str, float, float, float]]) -> DotPlot:
    """Lay out shares.

    Args:
        rows: name, value, and both ends of the interval, 0 to 1; at least one.
    """
    low, high, steps = _round_ends(min(r[2] for r in rows) * 100, max(r[3] for r in rows) * 100)

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (high - low), 3)

    dots = tuple(
        Dot(
            name,
            f"{100 * value:.1f} % ({100 * least:.1f} to {100 * most:.1f} %)",
            place(value),
            place(least),
            place(most),
        )
        for name, value, least, most in rows
    )
    return DotPlot(dots, _ticks(low, high, steps))


def curve(title: str, points: Sequence[tuple[float, float]], unit: str = "") -> Curve | None:
    """Lay out a curve; None where there are fewer than two points.

    Args:
        title: what is drawn.
        points: step and value, by step; values that are not finite are left out.
        unit: written behind values, such as ``%``.
    """
    known = _thinned([(x, y) for x, y in points if math.isfinite(y)])
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    left, right = known[0][0], known[-1][0]
    low, high, steps = _round_ends(min(y for _, y in known), max(y for _, y in known))
    drawn = " ".join(
        f"{100 * (x - left) / (right - left):.2f},{100 * (high - y) / (high - low):.2f}"
        for x, y in known
    )
    first, last = known[0][1], known[-1][1]
    return Curve(
        title=title,
        points=drawn,
        across=tuple(Tick(100 * at, f"{left + (right - left) * at:,.0f}") for at in (0, 0.5, 1)),
        up=tuple(Tick(100 - tick.place, tick.text + unit) for tick in _ticks(low, high, steps)),
        first=first,
        last=last,
        last_text=f"{last:,.4g}{unit}",
        summary=(
            f"{title}: {first:,.4g}{unit} at step {left:,.0f}, {last:,.4g}{unit} at step "
            f"{right:,.0f}"
        ),
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS`, each the mean of its neighbours; the last stays as it is."""
    step = math.ceil(len(points) / _POINTS)
    if step <= 1:
        return points
    parts = [points[start : start + step] for start in range(0, len(points) - 1, step)]
    means = [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]
    return [*means, points[-1]]


def _round_ends(low: float, high: float) -> tuple[float, float, int]:
    """Ends of an axis at round numbers, and its number of steps."""
    span = max(high - low, 1e-9 * max(abs(high), 1.0))
    power = 10.0 ** math.floor(math.log10(span / _STEPS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span <= _STEPS * power * factor)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return first * step, last * step, last - first


def _ticks(low: float, high: float, steps: int) -> tuple[Tick, ...]:
    digits = max(0, -math.floor(math.log10((high - low) / steps) + 1e-9))
    return tuple(
        Tick(
            round(100 * at / steps, 3),
            f"{low + (high - low) * at / steps:,.{digits}f}".replace("-", "\u2212"),
        )
        for at in range(steps + 1)
    )
