"""Percentile bootstrap with the patient as the unit.

Tiles of one patient resemble each other, so they are drawn together: a draw takes as many patients
as there are, with replacement, and all tiles of each (cluster bootstrap: Efron & Tibshirani, An
Introduction to the Bootstrap, 1993, ch. 8 and 13; Field & Welsh, JRSS B 69, 2007). The two groups
of a comparison are drawn apart. Equal seeds give equal intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy.intervals import Estimate

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 1000
_TAILS = (0.025, 0.975)
_MISS = 0.05


@dataclass(frozen=True, eq=False)
class Resample:
    """N tiles of P patients, and how often each of D draws took each patient."""

    codes: Ints
    """(N,) number of the patient of each tile, 0 to P - 1."""
    counts: Values
    """(D, P) how often the draw holds the patient; each row sums to P."""

    @classmethod
    def of(cls, patients: Ints, rng: np.random.Generator, draws: int = DRAWS) -> Resample:
        """Draw the patients of the tiles.

        Args:
            patients: (N,) any number for each tile; equal numbers are one patient. N > 0.
            rng: what to draw with.
            draws: D.
        """
        names, codes = np.unique(patients, return_inverse=True)
        size = len(names)
        drawn = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size)
        return cls(codes.reshape(-1).astype(np.int64), counts.astype(np.float64))

    @property
    def patients(self) -> int:
        """P."""
        return int(self.counts.shape[1])

    def means(self, values: Values) -> Values:
        """(D,) mean over the tiles of each draw, from one value per tile (N,)."""
        sums = np.bincount(self.codes, weights=values, minlength=self.patients)
        means: Values = (self.counts @ sums) / self.sizes()
        return means

    def sizes(self) -> Values:
        """(D,) number of tiles in each draw."""
        sizes: Values = self.counts @ np.bincount(self.codes, minlength=self.patients)
        return sizes

    def where(self, chosen: NDArray[np.bool_]) -> Resample:
        """The same draws, of the ``chosen`` (N,) tiles only."""
        return Resample(self.codes[chosen], self.counts)

    def of_tiles(self, draws: slice = slice(None)) -> Values:
        """(D, N) how often each draw holds each tile."""
        return self.counts[draws][:, self.codes]


def percentile(value: float, drawn: Values) -> Estimate:
    """The estimate ``value`` with the middle 95 % of the ``drawn`` (D,) ones around it."""
    low, high = np.quantile(drawn, _TAILS)
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def share_of(value: float, drawn: Values, patients: int) -> Estimate:
    """As `percentile`, for a share: an interval that never claims certainty.

    Where no tile (or every tile) counts, every draw says the same, and the plain interval would
    have no width. Then the exact one-sided 95 % bound for none of ``patients`` takes its place
    (Hanley & Lippman-Hand, JAMA 249, 1983).
    """
    found = percentile(value, drawn)
    bound = 1.0 - _MISS ** (1.0 / patients)
    high = max(found.high, bound) if found.high <= 0.0 else found.high
    low = min(found.low, 1.0 - bound) if found.low >= 1.0 else found.low
    return Estimate(found.value, low, high)


def mean_by_patient(values: Values, patients: Ints, *, seed: int, draws: int = DRAWS) -> Estimate:
    """Mean of one value per tile (N,) with its interval by patient (N,); N > 0."""
    resample = Resample.of(patients, np.random.default_rng(seed), draws)
    return percentile(float(np.mean(values)), resample.means(values))


def share_by_patient(values: Values, patients: Ints, *, seed: int, draws: int = DRAWS) -> Estimate:
    """As `mean_by_patient`, for values between 0 and 1: see `share_of`."""
    resample = Resample.of(patients, np.random.default_rng(seed), draws)
    return share_of(float(np.mean(values)), resample.means(values), resample.patients)
