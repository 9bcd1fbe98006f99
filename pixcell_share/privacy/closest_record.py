"""Distance to the closest record: are synthetic tiles nearer to the cohort than to others?

Alone this is no privacy claim: a generator can leak and pass it (Yao et al., The DCR Delusion,
arXiv 2505.01524). It is reported beside attacks that have a control.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError
from pixcell_share.privacy._near import require, source_patients, to_nearest, to_nearest_other
from pixcell_share.privacy.bootstrap import Resample, share_of
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.sample import AuditSample, Floats, Ints, Tiles
from pixcell_share.privacy.whitening import few_of_each, standardised

Values = NDArray[np.float64]

_FEW = 0.1
_QUANTILE = 0.05
_FIRST = 8
"""Nearest patients kept for each tile: that a draw holds none of them has a chance of 0.0003."""
_PORTION = 256
_EQUAL = 1e-9
"""Squared distances, in parts of the mean squared norm, that differ by less count as equal."""


@dataclass(frozen=True)
class ClosestSettings:
    """Sizes of the two sets that are compared."""

    tiles: int = 8
    """Tiles of each patient in both sets, at most: as many as nine of ten patients have."""
    patients: int = 512
    """Patients of each set at most."""
    synthetic: int = 4096
    """Synthetic tiles at most for each pair of sets."""
    pairs: int = 5
    """Pairs of random sets of equal size, over which the share is averaged."""
    draws: int = 200
    """Bootstrap draws for each pair."""


@dataclass(frozen=True)
class ClosestRecord:
    """Figures on the distance to the nearest conditioning tile."""

    nearer: Estimate
    """Share of synthetic tiles nearer to conditioning tiles than to as many tiles of as many
    patients set aside; one half where it makes no difference. Patients of both are drawn again."""
    ratio: float
    """5 % quantile of the distance to the nearest conditioning tile, divided by that to the
    nearest one of another patient. Near 0: some tile has one patient very close."""
    ratio_control: float
    """The same of holdout tiles."""


def closest_record(
    sample: AuditSample, *, seed: int, settings: ClosestSettings | None = None
) -> ClosestRecord:
    """Compare the distances to the cohort with those to patients set aside.

    Both sets hold as many patients, and as many tiles of each; synthetic tiles count of which a
    source is in the set. Where sources are not known all count. (Share and null as in
    sdmetrics' DCROverfittingProtection; ratio: Zhao et al., CTAB-GAN, ACML 2021, with the patient
    as the record.)

    Raises:
        AuditError: no tile, no holdout patient, or conditioning tiles of one patient only.
    """
    require(sample, "the closest record")
    sample = standardised(sample)
    conditioning = sample.conditioning
    if len(np.unique(conditioning.patients)) < 2:
        raise AuditError("the cohort has one patient only", "add patients")
    shares, drawn, patients = [], [], 0
    for value, draws, count in _pairs(sample, settings or ClosestSettings(), seed):
        shares.append(value)
        drawn.append(draws)
        patients = count
    return ClosestRecord(
        nearer=share_of(float(np.mean(shares)), np.concatenate(drawn), patients),
        ratio=_ratio(sample.synthetic, conditioning),
        ratio_control=_ratio(sample.holdout.embeddings, conditioning),
    )


def _ratio(embeddings: Floats, conditioning: Tiles) -> float:
    first, rows = to_nearest(embeddings, conditioning.embeddings)
    second, _ = to_nearest_other(
        embeddings, conditioning.patients[rows], conditioning.embeddings, conditioning.patients
    )
    ratios = np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return float(np.quantile(ratios, _QUANTILE))


def _pairs(
    sample: AuditSample, settings: ClosestSettings, seed: int
) -> Iterator[tuple[float, Values, int]]:
    """Share, its draws (D,) and the number of patients, for each pair of sets."""
    rng = np.random.default_rng(seed)
    ours, theirs = sample.conditioning, sample.holdout
    tiles = min(_usual(ours), _usual(theirs), settings.tiles)
    enough = _with(ours, tiles), _with(theirs, tiles)
    size = min(len(enough[0]), len(enough[1]), settings.patients)
    for _ in range(settings.pairs):
        rows = _pick(ours, enough[0], size, tiles, rng), _pick(theirs, enough[1], size, tiles, rng)
        chosen = _made_from(sample, rows[0], settings.synthetic, rng)
        if not len(chosen):
            continue
        sets = ours.take(rows[0]), theirs.take(rows[1])
        units = source_patients(sample)[chosen]
        yield *_compare(sample.synthetic[chosen], units, *sets, tiles, rng, settings.draws), size


def _usual(tiles: Tiles) -> int:
    """Tiles that nine of ten patients have."""
    counts = np.unique(tiles.patients, return_counts=True)[1]
    return int(np.quantile(counts, _FEW, method="lower"))


def _with(tiles: Tiles, least: int) -> Ints:
    patients, counts = np.unique(tiles.patients, return_counts=True)
    return np.asarray(patients[counts >= least], dtype=np.int64)


def _pick(tiles: Tiles, patients: Ints, size: int, each: int, rng: np.random.Generator) -> Ints:
    """Rows of ``each`` tiles of ``size`` random ones of the patients, patient after patient."""
    drawn = rng.choice(patients, size, replace=False)
    rows = np.flatnonzero(np.isin(tiles.patients, drawn))
    return np.asarray(rows[few_of_each(tiles.patients[rows], each, rng)])


def _made_from(sample: AuditSample, rows: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Synthetic tiles, at most ``most``, with a source among the ``rows`` of conditioning."""
    chosen = np.arange(len(sample.synthetic))
    if sample.sources is not None:
        chosen = np.flatnonzero(np.isin(sample.sources, rows).any(axis=1))
    return np.asarray(np.sort(rng.permutation(chosen)[:most]), dtype=np.int64)


def _compare(
    synthetic: Floats,
    units: Ints,
    ours: Tiles,
    theirs: Tiles,
    each: int,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float, Values]:
    """Share of synthetic tiles nearer to ours, and the same in each draw of both sets' patients."""
    near = _by_patient(synthetic, ours, each), _by_patient(synthetic, theirs, each)
    mine = Resample.of(ours.patients[::each], rng, draws)
    other = Resample.of(theirs.patients[::each], rng, draws)
    weights = _weights(units, ours.patients[::each], mine)
    drawn = [
        np.average(_nearer(near[0].best(mine.counts[d]), near[1].best(other.counts[d])), weights=w)
        for d, w in enumerate(weights)
    ]
    all_of = np.ones(mine.patients)
    return float(_nearer(near[0].best(all_of), near[1].best(all_of)).mean()), np.asarray(drawn)


def _weights(units: Ints, patients: Ints, mine: Resample) -> Iterator[Values]:
    """How often each draw holds each synthetic tile (S,): as often as the patient it goes with.

    A tile that goes with no patient of the set (no source is known, or its first source lies
    outside) is in every draw.
    """
    places = np.searchsorted(patients, units)
    known = patients[np.minimum(places, len(patients) - 1)] == units
    for counts in mine.counts:
        weights = np.where(known, counts[np.minimum(places, len(patients) - 1)], 1.0)
        yield weights if weights.any() else np.ones_like(weights)


def _nearer(ours: Values, theirs: Values) -> Values:
    """1 where the first squared distance is the smaller one; one half where they are equal."""
    apart = theirs - ours
    return np.asarray(np.where(np.abs(apart) <= _EQUAL, 0.5, (apart > 0).astype(np.float64)))


@dataclass(frozen=True, eq=False)
class _NearPatients:
    """The nearest patients of each of S synthetic tiles."""

    patients: Ints
    """(S, F), the nearest first."""
    distances: Values
    """(S, F) squared distance to the nearest tile of each, of the mean squared norm."""

    def best(self, counts: Values) -> Values:
        """(S,) distance to the nearest of the patients that a draw (P,) holds."""
        held = counts[self.patients] > 0
        first = np.where(held.any(axis=1), held.argmax(axis=1), self.patients.shape[1] - 1)
        return np.asarray(np.take_along_axis(self.distances, first[:, None], axis=1)[:, 0])


def _by_patient(synthetic: Floats, tiles: Tiles, each: int) -> _NearPatients:
    rows = tiles.embeddings.astype(np.float64)
    squares = (rows**2).sum(axis=1)
    indices, distances = [], []
    for start in range(0, len(synthetic), _PORTION):
        queries = synthetic[start : start + _PORTION].astype(np.float64)
        apart = (queries**2).sum(axis=1)[:, None] + squares - 2 * queries @ rows.T
        nearest = apart.reshape(len(queries), -1, each).min(axis=2)
        order = np.argsort(nearest, axis=1, kind="stable")[:, :_FIRST]
        indices.append(order)
        distances.append(np.take_along_axis(nearest, order, axis=1))
    scale = float(squares.mean()) or 1.0
    return _NearPatients(np.concatenate(indices), np.concatenate(distances) / scale)
