"""What one release costs a patient, what all of them cost, and how much they may cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pixcell_share.errors import SettingsError

_ROUNDING = 1e-9
"""Relative: ten releases at epsilon 0.1 must fit into a budget of 1."""


@dataclass(frozen=True)
class Exposure:
    """What one release costs one patient."""

    epsilon: float | None
    """Epsilon of differential privacy with the patient as the unit; None where the release is not
    differentially private."""
    delta: float
    """Its delta; 0 where ``epsilon`` is None."""
    tiles: int
    """Tiles of this patient that conditioned the release."""

    def __post_init__(self) -> None:
        """Refuse what cannot be added up.

        Raises:
            ValueError: a figure is out of range.
        """
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon = {self.epsilon} is not a positive number")
        if not 0 <= self.delta < 1 or (self.epsilon is None and self.delta):
            raise ValueError(f"delta = {self.delta} does not go with epsilon = {self.epsilon}")
        if self.tiles < 1:
            raise ValueError(f"a patient with {self.tiles} tiles is not exposed")

    def to_json(self) -> dict[str, Any]:
        """As an entry of the ledger holds it."""
        return {"epsilon": self.epsilon, "delta": self.delta, "tiles": self.tiles}


@dataclass(frozen=True)
class Total:
    """What all releases together cost one patient."""

    epsilon: float = 0.0
    """Sum over the differentially private releases."""
    delta: float = 0.0
    """Sum over them."""
    releases: int = 0
    """Releases that are *not* differentially private: no sum of epsilons covers them."""
    tiles: int = 0
    """Tiles that conditioned a release, counted once for each release."""

    @classmethod
    def of(cls, exposures: Iterable[Exposure]) -> Total:
        """Basic composition: epsilons and deltas add up (Dwork and Roth, "The Algorithmic
        Foundations of Differential Privacy", 2014, theorem 3.16). Advanced composition would be
        tighter only from some tens of releases of small epsilon on.
        """
        exposures = list(exposures)
        return cls(
            epsilon=math.fsum(e.epsilon for e in exposures if e.epsilon is not None),
            delta=math.fsum(e.delta for e in exposures),
            releases=sum(e.epsilon is None for e in exposures),
            tiles=sum(e.tiles for e in exposures),
        )


@dataclass(frozen=True)
class Budget:
    """How much all releases together may cost a patient."""

    epsilon: float = 10.0
    """Largest sum of epsilons. Ten is the weak end of what is in use (the US census of 2020 spent
    17 on persons); below it a guarantee begins to say something."""
    delta: float = 1e-3
    """Largest sum of deltas: the chance that the guarantee does not hold at all."""
    releases: int = 3
    """Most releases that are not differentially private. Each gives an attacker another draw of
    the same patients, so the audit of one says less than it did."""

    def __post_init__(self) -> None:
        """Refuse a budget that is none.

        Raises:
            SettingsError: naming the entry.
        """
        for name, low, high in (("epsilon", 0.0, 1e6), ("delta", 0.0, 1.0), ("releases", 0, 10**6)):
            value = getattr(self, name)
            kind = int if name == "releases" else (int, float)
            whole = isinstance(value, kind) and not isinstance(value, bool)
            if not (whole and low <= value <= high):
                raise SettingsError(
                    f"budget: {name} = {value!r} is not between {low:g} and {high:g}",
                    f"leave it out for the default, {getattr(Budget, name):g}",
                )

    def passed_by(self, total: Total) -> tuple[str, ...]:
        """Names of the entries that ``total`` passes."""
        return tuple(
            name
            for name in ("epsilon", "delta", "releases")
            if getattr(total, name) > getattr(self, name) * (1 + _ROUNDING)
        )
