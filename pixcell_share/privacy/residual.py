"""What an attack gains over the same attack on patients who are not in the cohort."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

from pixcell_share.privacy.intervals import Estimate, Share


@dataclass(frozen=True)
class Residual:
    """Residual risk R = (a - c) / (1 - c) of an attack rate a beside a control rate c.

    The share of what the control leaves to be won that the attack wins (Giomi, Boenisch,
    Wehmeyer & Tasnádi, A Unified Framework for Quantifying Privacy Risk in Synthetic Data, PoPETs
    2023(2), eq. 2). As there, a and c have Wilson intervals, the errors are propagated to first
    order, and R and its ends are clipped to [0, 1]. Unlike there, a and c are the plain shares and
    each end of R takes the ends of a and c on its side (square-and-add: Newcombe, Statistics in
    Medicine 17, 1998, method 10): Wilson's centres pull a small control group towards one half,
    which would hide a risk where few patients were set aside.
    """

    attack: Share
    """Successes on patients in the cohort."""
    control: Share
    """Successes on patients who were set aside."""

    @property
    def raw(self) -> Estimate:
        """R before it is clipped: below 0 where the attack fared better on the control."""
        a, c = self.attack.value, self.control.value
        a_low, a_high = self.attack.interval
        c_low, c_high = self.control.interval
        if c >= 1.0:
            return Estimate(0.0, 0.0, 1.0)
        value = (a - c) / (1.0 - c)
        by_attack, by_control = 1.0 / (1.0 - c), (1.0 - a) / (1.0 - c) ** 2
        low = value - hypot(by_attack * (a - a_low), by_control * (c_high - c))
        high = value + hypot(by_attack * (a_high - a), by_control * (c - c_low))
        return Estimate(value, low, high)

    @property
    def estimate(self) -> Estimate:
        """R with its 95 % interval, clipped; (0, 1) where a control that always succeeds leaves
        nothing. A control that did better than the attack did so by chance, and makes no risk
        smaller: the upper end is then that of R = 0."""
        found = self.raw
        value = max(0.0, found.value)
        high = min(1.0, value + (found.high - found.value))
        return Estimate(value, max(0.0, found.low), high)
