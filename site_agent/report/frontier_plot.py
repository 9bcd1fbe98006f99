"""The frontier as a picture: use against what is given away, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from pixcell_share.files import atomic_write_text
from pixcell_share.privacy import Estimate

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 20, 560, 380
_KINDS = {"mix": "mix", "epsilon": "epsilon", "real": "real"}


class Point(Protocol):
    """What of a cell is drawn."""

    @property
    def name(self) -> str:
        """``mix 5``, ``epsilon 3`` or ``real``."""

    @property
    def guidance_scale(self) -> float | None:
        """Shown beside the name where cells differ in it."""

    @property
    def residual(self) -> Estimate:
        """Across."""

    @property
    def balanced_accuracy(self) -> Estimate:
        """Up."""


@dataclass(frozen=True)
class Mark:
    """A cell in the picture's coordinates."""

    kind: str
    label: str
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    title: str


@dataclass(frozen=True)
class Axis:
    """From data to the picture."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """0 to 1 along the axis."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    @property
    def ticks(self) -> list[float]:
        """Six values."""
        return [self.low + (self.high - self.low) * step / 5 for step in range(6)]


def write_plot(path: Path, cells: Sequence[Point]) -> None:
    """Draw ``cells`` to an SVG file that needs nothing else."""
    across = Axis(0.0, max(0.1, _up(max(cell.residual.high for cell in cells))))
    lowest = min(cell.balanced_accuracy.low for cell in cells)
    up = Axis(
        max(0.0, _up(lowest) - 0.1), min(1.0, _up(max(c.balanced_accuracy.high for c in cells)))
    )
    template = Environment(
        loader=PackageLoader("site_agent", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("frontier.svg")
    several = len({cell.guidance_scale for cell in cells if cell.guidance_scale}) > 1
    text = template.render(
        marks=[_mark(cell, across, up, several) for cell in cells],
        left=_LEFT, top=_TOP, width=_WIDTH, height=_HEIGHT,
        across=[(_LEFT + _WIDTH * across.place(v), f"{v:.2f}") for v in across.ticks],
        up=[(_TOP + _HEIGHT * (1 - up.place(v)), f"{v:.2f}") for v in up.ticks],
        kinds=[kind for kind in _KINDS if any(_kind(cell) == kind for cell in cells)],
    )  # fmt: skip
    atomic_write_text(path, text)


def _mark(cell: Point, across: Axis, up: Axis, several: bool) -> Mark:
    def x(value: float) -> float:
        return round(_LEFT + _WIDTH * across.place(value), 1)

    def y(value: float) -> float:
        return round(_TOP + _HEIGHT * (1 - up.place(value)), 1)

    residual, accuracy = cell.residual, cell.balanced_accuracy
    scale = f" ({cell.guidance_scale:g})" if several and cell.guidance_scale else ""
    return Mark(
        kind=_kind(cell),
        label=cell.name + scale,
        x=x(residual.value), y=y(accuracy.value),
        left=x(residual.low), right=x(residual.high),
        top=y(accuracy.high), bottom=y(accuracy.low),
        title=f"{cell.name}{scale}: residual {residual.value:.3f}, "
        f"balanced accuracy {accuracy.value:.3f}",
    )  # fmt: skip


def _kind(cell: Point) -> str:
    return cell.name.split()[0]


def _up(value: float) -> float:
    """To the next tenth."""
    return -(-value // 0.1) * 0.1
