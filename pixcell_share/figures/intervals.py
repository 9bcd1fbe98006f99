"""The geometry of an interval plot: a figure, its interval, what it is compared with, its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pixcell_share.figures.numbers import number, percent, percents

_TOPS = ((0.05, 5), (0.1, 5), (0.2, 4), (0.5, 5), (1.0, 5))
"""Where an axis of shares may end, and its number of steps."""
_FLOORS = (0.9, 0.8, 0.5)
_STEPS = 5
_INTERVAL = "95\u00a0% interval "


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval, where it has one."""

    name: str
    """What it is, in a few words."""
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Figure:
    """What a test came to: one figure, and others to compare it with."""

    main: Measured
    """The figure that is held against the limit."""
    compared: tuple[Measured, ...] = ()
    """Such as the same figure of the control group."""
    limit: float | None = None
    """None where the figure is reported and not judged."""
    at_least: bool = False
    """Whether the figure has to reach the limit, or must not pass it."""
    share: bool = True
    """Whether figures are shares, 0 to 1, and are shown as percentages."""

    def text(self, value: float) -> str:
        """A value in the figure's unit."""
        return percent(value) if self.share else number(value)

    def row(self, measured: Measured) -> str:
        """A value with its interval, beside a plot: ``17 % (2 to 34 %)``."""
        text = spread(measured.value, measured.low, measured.high, share=self.share)
        return text.replace(_INTERVAL, "")

    def _measured(self) -> Iterator[float]:
        for measured in (self.main, *self.compared):
            yield from (
                bound
                for bound in (measured.low, measured.value, measured.high)
                if bound is not None
            )
        if self.limit is not None:
            yield self.limit

    def axis(self) -> tuple[float, float, int]:
        """Both ends of an axis that holds all values, and its number of steps."""
        low, high = min(self._measured()), max(self._measured())
        if not self.share:
            return _wide(min(low, 0.0), max(high, 0.0))
        if self.at_least:
            floor = next((floor for floor in _FLOORS if low >= floor), 0.0)
            return floor, 1.0, _STEPS
        top, steps = next((top for top in _TOPS if high <= top[0]), _TOPS[-1])
        return 0.0, top, steps


def spread(value: float, low: float | None, high: float | None, *, share: bool = True) -> str:
    """A value with its 95 % interval, in words."""
    text = percent(value) if share else number(value)
    if low is None or high is None:
        return text
    between = percents(low, high) if share else f"{number(low)} to {number(high)}"
    return f"{text} ({_INTERVAL}{between})"


@dataclass(frozen=True)
class Mark:
    """One row of a plot; places are percentages of its width."""

    name: str
    text: str
    """The value and its interval, as text."""
    place: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class IntervalPlot:
    """A figure laid out on an axis; places are percentages of its width."""

    main: Mark
    compared: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    limit: float | None
    limit_text: str


def interval_plot(figure: Figure) -> IntervalPlot:
    """Lay a figure out."""
    low, high, steps = figure.axis()

    def place(value: float) -> float:
        return 100.0 * min(1.0, max(0.0, (value - low) / (high - low)))

    def mark(found: Measured) -> Mark:
        bounds = [None if bound is None else place(bound) for bound in (found.low, found.high)]
        return Mark(found.name, figure.row(found), place(found.value), *bounds)

    marks = [low + (high - low) * step / steps for step in range(steps + 1)]
    limit = figure.limit
    bound = "at least" if figure.at_least else "at most"
    return IntervalPlot(
        main=mark(figure.main),
        compared=tuple(mark(other) for other in figure.compared),
        ticks=tuple((place(value), figure.text(value)) for value in marks),
        limit=None if limit is None else place(limit),
        limit_text="" if limit is None else f"limit: {bound} {figure.text(limit)}",
    )


def _wide(low: float, high: float) -> tuple[float, float, int]:
    """Ends at round numbers about ``low`` and ``high``, a few steps apart."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / _STEPS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span <= _STEPS * power * factor)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return first * step, last * step, last - first
