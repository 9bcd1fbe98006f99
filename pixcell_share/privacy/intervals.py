"""Figures with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class Estimate:
    """A figure with the 95 % interval that its docstring names."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """``count`` of ``total``, with the 95 % interval of Wilson."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; 0 where nothing was counted."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927); (0, 1) where nothing was counted."""
        if not self.total:
            return 0.0, 1.0
        found = binomtest(self.count, self.total).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def figures(self) -> dict[str, float | int | list[float]]:
        """For JSON: count, total, share and interval, rounded to six decimals."""
        return {
            "count": self.count,
            "total": self.total,
            "share": round(self.value, 6),
            "interval_95": [round(bound, 6) for bound in self.interval],
        }
