"""C_T: are synthetic tiles nearer to the conditioning tiles than unseen real tiles are?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

from pixcell_share.privacy._near import require, source_patients, to_nearest
from pixcell_share.privacy.bootstrap import DRAWS, Resample, percentile
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.rates import auc, drawn_auc
from pixcell_share.privacy.sample import AuditSample, Floats, Ints
from pixcell_share.privacy.whitening import standardised

Values = NDArray[np.float64]

_FITTED = 20_000
"""Tiles that k-means looks at, at even distances through the cohort."""
_ROUNDS = 20


@dataclass(frozen=True)
class CopyingSettings:
    """How the space of embeddings is parted."""

    cells: int = 5
    """Cells of k-means at most; fewer where a cell would hold too few tiles on average."""
    least: int = 20
    """Synthetic tiles that a cell needs to count: tau = 20 / m in the paper's experiments."""


@dataclass(frozen=True)
class DataCopying:
    """The statistic and what it rests on."""

    c_t: Estimate
    """Far below 0: synthetic tiles are nearer to the cohort than holdout tiles are. About 0:
    as near. Above 0: farther. Interval by patient."""
    cells: int
    """Cells that counted."""


def data_copying(
    sample: AuditSample, *, seed: int, settings: CopyingSettings | None = None
) -> DataCopying:
    """C_T of Meehan, Chaudhuri & Dasgupta, A Non-Parametric Test to Detect Data-Copying in
    Generative Models, AISTATS 2020, sec. 3 and 4.

    In each cell of a k-means of the conditioning tiles, Z_U compares the distances to the nearest
    conditioning tile of synthetic and of holdout tiles (`z_score`). C_T is their mean, weighted by
    the holdout tiles of each cell, over cells with enough synthetic tiles.

    A Z grows with the number of tiles, and takes tiles for independent, which those of one patient
    are not. So it is the interval that counts: patients of both groups are drawn again.

    Raises:
        AuditError: no holdout patient, or no tile.
    """
    require(sample, "data copying")
    sample = standardised(sample)
    chosen = settings or CopyingSettings()
    ours, _ = to_nearest(sample.synthetic, sample.conditioning.embeddings)
    theirs, _ = to_nearest(sample.holdout.embeddings, sample.conditioning.embeddings)
    cells = _cells(sample, chosen, seed)
    rng = np.random.default_rng(seed)
    resamples = (
        Resample.of(source_patients(sample), rng),
        Resample.of(sample.holdout.patients, rng),
    )
    kept = _kept(*cells, chosen.least)
    value, drawn, weight, weights = 0.0, np.zeros(DRAWS), 0.0, np.zeros(DRAWS)
    for cell in kept:
        mine, other = cells[0] == cell, cells[1] == cell
        part = resamples[0].where(mine), resamples[1].where(other)
        sizes = part[1].sizes()
        value += other.sum() * z_score(ours[mine], theirs[other])
        drawn += sizes * _drawn_z(ours[mine], theirs[other], *part)
        weight, weights = weight + other.sum(), weights + sizes
    return DataCopying(percentile(value / weight, drawn / np.maximum(weights, 1)), len(kept))


def z_score(ours: Values, theirs: Values) -> float:
    """Z_U of distances (m,) of synthetic and (n,) of real tiles: below 0 where ours are smaller.

    (U - n m / 2) / sqrt(n m (n + m + 1) / 12), where U counts the pairs in which ours is larger,
    ties one half, and the variance is corrected for ties (Mann & Whitney 1947; Lehmann,
    Nonparametrics, 1975, sec. 1.4). No continuity correction: nothing is read off a table.
    """
    spread = _spread(len(ours), len(theirs), _ties(ours, theirs))
    shift = (auc(ours, theirs) - 0.5) * len(ours) * len(theirs)
    return float(shift / spread) if spread > 0 else 0.0


def _drawn_z(ours: Values, theirs: Values, mine: Resample, other: Resample) -> Values:
    """(D,) `z_score` in each draw; 0 where the draw left one side empty."""
    areas = drawn_auc(ours, theirs, mine, other)
    m, n = mine.sizes(), other.sizes()
    spread = _spread(m, n, _ties(ours, theirs))
    shift = (areas - 0.5) * m * n
    found: Values = np.divide(shift, spread, out=np.zeros_like(shift), where=spread > 0)
    return found


def _spread(m: Values | int, n: Values | int, ties: float) -> Values:
    """Standard deviation of U where both samples come from one distribution."""
    spread: Values = np.sqrt(np.asarray(m) * n * (np.asarray(m) + n + 1) / 12 * ties)
    return spread


def _ties(ours: Values, theirs: Values) -> float:
    """What ties leave of the variance: 1 - sum(t^3 - t) / (N^3 - N)."""
    _, counts = np.unique(np.concatenate([ours, theirs]), return_counts=True)
    size, tied = float(counts.sum()), counts.astype(np.float64)
    return float(1.0 - (tied**3 - tied).sum() / (size**3 - size))


def _cells(sample: AuditSample, settings: CopyingSettings, seed: int) -> tuple[Ints, Ints]:
    """Cell (S,) of each synthetic tile, and (H,) of each holdout tile."""
    rows = sample.conditioning.embeddings
    rows = rows[:: max(1, len(rows) // _FITTED)].astype(np.float64)
    fewest = min(len(sample.synthetic), len(sample.holdout))
    distinct = len(np.unique(rows, axis=0))
    count = max(1, min(settings.cells, fewest // (2 * settings.least), distinct))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty cell counts for nothing
        centres, _ = kmeans2(rows, count, iter=_ROUNDS, minit="++", seed=seed)
    return _nearest_cell(sample.synthetic, centres), _nearest_cell(
        sample.holdout.embeddings, centres
    )


def _nearest_cell(embeddings: Floats, centres: Values) -> Ints:
    cells: Ints = vq(embeddings.astype(np.float64), centres)[0].astype(np.int64)
    return cells


def _kept(ours: Ints, theirs: Ints, least: int) -> list[int]:
    """Cells with enough synthetic tiles and any holdout tile; all as one where there are none."""
    size = int(max(ours.max(), theirs.max())) + 1
    enough = np.bincount(ours, minlength=size) >= least
    kept = np.flatnonzero(enough & (np.bincount(theirs, minlength=size) > 0)).tolist()
    if not kept:
        ours[:], theirs[:] = 0, 0
        return [0]
    return [int(cell) for cell in kept]
