"""Figures on pages, of sites and of the hub: how numbers are written, and plots of intervals."""

from pixcell_share.figures.intervals import (
    Figure,
    IntervalPlot,
    Mark,
    Measured,
    interval_plot,
    spread,
)
from pixcell_share.figures.numbers import count, number, percent, percents, quantity, signed

__all__ = [
    "Figure",
    "IntervalPlot",
    "Mark",
    "Measured",
    "count",
    "interval_plot",
    "number",
    "percent",
    "percents",
    "quantity",
    "signed",
    "spread",
]
