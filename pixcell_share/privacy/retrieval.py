"""Retrieval: does a synthetic tile lead back to the real tile that it was made from?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy._near import require, source_patients
from pixcell_share.privacy.bootstrap import Resample, share_of
from pixcell_share.privacy.intervals import Estimate
from pixcell_share.privacy.sample import AuditSample, Ints, Tiles
from pixcell_share.privacy.whitening import Whitening, few_of_each

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NUMBERS = 1 << 22
"""Distances held at once."""
_EQUAL = 1e-12
"""Squared distances that differ by less than this part of the squared norms count as equal."""
_DEEP = 5
_PER_PATIENT = 8


@dataclass(frozen=True)
class Retrieval:
    """How often the source is found, with intervals by patient."""

    tiles: int
    """Synthetic tiles asked."""
    gallery: int
    """Real tiles searched: conditioning, probes and holdout."""
    rank_1: Estimate
    """Share of synthetic tiles whose source, or one of their sources, is the nearest."""
    control_1: float
    """The same for as many tiles of other patients of the class in the sources' place."""
    rank_5: Estimate
    """Share whose source is among the five nearest."""
    control_5: float
    excess: Estimate
    """(a - c) / (1 - c) of rank_1 and control_1, clipped to [0, 1]."""
    patient_1: Estimate
    """Share whose nearest real tile is of a patient whom it was made from."""


def retrieval(sample: AuditSample, *, seed: int, whiten: bool = True) -> Retrieval | None:
    """Look for the sources of each synthetic tile among all real tiles.

    Tiles at equal distance are taken to be in random order, so a success counts as its chance. The
    control is exact: the sources leave the gallery, and what is counted is the chance that one of
    k tiles, drawn with replacement from those of the same class and of other patients, ranks as
    high among those that are left. Euclidean distances in double precision.

    Args:
        sample: the groups.
        seed: of the bootstrap.
        whiten: compare whitened embeddings (`Whitening`), fitted to a few tiles of each patient;
            else the embeddings as they are.

    Returns:
        The rates; None where sources are not known.

    Raises:
        AuditError: no tile or no holdout patient.
    """
    sources = sample.sources
    if sources is None:
        return None
    require(sample, "retrieval")
    rng = np.random.default_rng(seed)
    gallery = _gallery(sample)
    if whiten:
        fitted = few_of_each(gallery.patients, _PER_PATIENT, rng)
        space = Whitening.of(gallery.embeddings[fitted])
        gallery = gallery.mapped(space)
        sample = replace(sample, synthetic=space(sample.synthetic))
    found = _outcomes(sample, sources, gallery)
    resample = Resample.of(source_patients(sample), rng)
    means = {name: float(values.mean()) for name, values in found.items()}
    drawn = {name: resample.means(values) for name, values in found.items()}
    excess = _excess(np.asarray(means["rank_1"]), np.asarray(means["control_1"]))
    excesses = _excess(drawn["rank_1"], drawn["control_1"])
    return Retrieval(
        tiles=len(sample.synthetic),
        gallery=len(gallery),
        rank_1=share_of(means["rank_1"], drawn["rank_1"], resample.patients),
        control_1=means["control_1"],
        rank_5=share_of(means["rank_5"], drawn["rank_5"], resample.patients),
        control_5=means["control_5"],
        excess=share_of(float(excess), excesses, resample.patients),
        patient_1=share_of(means["patient_1"], drawn["patient_1"], resample.patients),
    )


def _gallery(sample: AuditSample) -> Tiles:
    """All real tiles, the conditioning ones first: their rows keep their numbers."""
    groups = (sample.conditioning, sample.probes, sample.holdout)
    return Tiles(
        np.concatenate([group.embeddings for group in groups]).astype(np.float32),
        np.concatenate([group.patients for group in groups]),
        np.concatenate([group.labels for group in groups]),
    )


def _excess(attack: Values, control: Values) -> Values:
    left = 1.0 - control
    gained = np.divide(attack - control, left, out=np.zeros_like(left), where=left > 0)
    return np.asarray(np.clip(gained, 0.0, 1.0))


def _outcomes(sample: AuditSample, sources: Ints, gallery: Tiles) -> dict[str, Values]:
    """For each synthetic tile its chance (S,) of each success, portion by portion."""
    step = max(1, _NUMBERS // len(gallery))
    real = gallery.embeddings.astype(np.float64)
    squares = np.einsum("nd,nd->n", real, real)
    parts = []
    for start in range(0, len(sources), step):
        rows = slice(start, start + step)
        queries = sample.synthetic[rows].astype(np.float64)
        norms = np.einsum("nd,nd->n", queries, queries)[:, None]
        apart = norms + squares - 2 * (queries @ real.T)
        equal = _EQUAL * (norms[:, 0] + float(squares.max()))
        parts.append(_portion(apart, equal, sources[rows], sample.synthetic_labels[rows], gallery))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _portion(
    apart: Values, equal: Values, sources: Ints, labels: Ints, gallery: Tiles
) -> dict[str, Values]:
    """Outcomes of B tiles, from squared distances (B, N) to the gallery."""
    rows = np.arange(len(apart))[:, None]
    is_source = np.zeros(apart.shape, dtype=bool)
    is_source[rows, sources] = True
    of_patient = np.zeros(apart.shape, dtype=bool)
    for column in gallery.patients[sources].T:
        of_patient |= gallery.patients[None, :] == column[:, None]
    place = (gallery.labels[None, :] == labels[:, None]) & ~of_patient
    best = apart.min(axis=1, where=is_source, initial=np.inf)
    others = np.where(is_source, np.inf, apart)
    found = {"patient_1": _among_nearest(apart, equal, of_patient)}
    for depth in (1, _DEEP):
        found[f"rank_{depth}"] = _source_within(depth, apart, best, equal, is_source)
        chance = _placed_within(depth, others, equal, place)
        found[f"control_{depth}"] = 1.0 - (1.0 - chance) ** is_source.sum(axis=1)
    return found


def _source_within(
    depth: int, apart: Values, best: Values, equal: Values, is_source: Flags
) -> Values:
    """(B,) chance that a source is among the ``depth`` nearest, with equal distances shuffled.

    Where r of t equally near tiles are sources and j places are open to them, it is
    1 - C(t - r, j) / C(t, j).
    """
    nearer = (apart < (best - equal)[:, None]).sum(axis=1)
    tied = np.abs(apart - best[:, None]) <= equal[:, None]
    ties, ours = tied.sum(axis=1), (tied & is_source).sum(axis=1)
    missed = np.ones(len(apart))
    for taken in range(depth):
        missing = np.clip((ties - ours - taken) / np.maximum(ties - taken, 1), 0.0, 1.0)
        missed *= np.where(taken < depth - nearer, missing, 1.0)
    return 1.0 - missed


def _placed_within(depth: int, others: Values, equal: Values, place: Flags) -> Values:
    """(B,) chance that a tile drawn from ``place`` is among the ``depth`` nearest of ``others``."""
    depth = min(depth, int(np.isfinite(others).sum(axis=1).min()))
    edge = np.partition(others, depth - 1, axis=1)[:, depth - 1]
    inside = others < (edge - equal)[:, None]
    tied = np.abs(others - edge[:, None]) <= equal[:, None]
    open_ = (depth - inside.sum(axis=1)) / np.maximum(tied.sum(axis=1), 1)
    expected = (inside & place).sum(axis=1) + np.clip(open_, 0, 1) * (tied & place).sum(axis=1)
    return np.asarray(np.minimum(expected / np.maximum(place.sum(axis=1), 1), 1.0))


def _among_nearest(apart: Values, equal: Values, wanted: Flags) -> Values:
    """(B,) share of the nearest tiles, those equally near together, that are ``wanted``."""
    tied = apart <= (apart.min(axis=1) + equal)[:, None]
    return np.asarray((tied & wanted).sum(axis=1) / tied.sum(axis=1))
