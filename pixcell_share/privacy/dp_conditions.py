"""``--dp-epsilon``: conditions drawn from noised statistics of the patients of a cohort.

One Gaussian mechanism with the patient as its unit (`dp_statistics`) gives class means, a second
moment, norms and counts. Everything after it is computed from its output, public weights and the
site's secret alone: class means, the spread within classes as far as it stands out of the noise,
the number of conditions, and the conditions themselves.

**What epsilon does not cover.** The conditions, and what is generated from them. *Not* the
verdict, the figures of the audit, or any choice made in sight of them: those are computed on real
tiles without noise. Tiles that were dropped or drawn again because they came close to a real one
would also tell of real tiles, so with noised conditions none may be. The list of classes, the
tile size and the settings count as public. So does that delta was below 1 / patients: that is
compared with the real number of patients, and only ever refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pixcell_share.errors import SettingsError
from pixcell_share.privacy._keyed import keyed_generator
from pixcell_share.privacy.accounting import Noise, noise_for
from pixcell_share.privacy.dp_statistics import (
    NORM_GRID,
    Doubles,
    Floats,
    Ints,
    PatientSums,
    Weights,
    input_digest,
    noised_sums,
)

_PURPOSE = "pixcell-share conditions from noised statistics, version 1"
_MOST = 1_000_000  # conditions per class, whatever the noise made of a count


@dataclass(frozen=True)
class DpSettings:
    """How much the conditions may tell of one patient."""

    epsilon: float
    """Budget of this release, for each patient; within `accounting.EPSILON_RANGE`."""
    delta: float = 1e-5
    """Below 1 / patients: a mechanism that publishes one patient whole has delta 1 / patients."""
    weights: Weights = field(default_factory=Weights)
    """How the budget is shared between the statistics."""


@dataclass(frozen=True)
class Guarantee:
    """What the noise promises, in the words that a report of it needs (NIST SP 800-226)."""

    epsilon: float
    delta: float
    noise_multiplier: float
    """Standard deviation of the noise in units of the clip."""
    clip: float
    """Largest L2 norm of a patient's contribution; by construction, nothing is cut off."""
    unit: str
    adjacency: str
    mechanism: str
    sampling: str
    steps: int
    accountant: str
    accountant_version: str


@dataclass(frozen=True, eq=False)
class DpConditions:
    """Conditions and what they promise. All of it is public."""

    conditions: Floats
    """(M, D) in random order."""
    labels: Ints
    """(M,) class of each; every class has at least one."""
    guarantee: Guarantee
    signal: float
    """Share of the mean embedding's squared norm that is not noise, estimated; 0 to 1. Near 0 the
    conditions point anywhere, and so do the pictures."""
    class_signal: Doubles
    """(C,) the same for the difference of each class from that mean; near 0 the class looks like
    all classes together."""
    directions: int
    """Directions of spread within classes that stood out of the noise."""


def dp_conditions(
    embeddings: Floats,
    patients: Ints,
    labels: Ints,
    classes: int,
    *,
    settings: DpSettings,
    secret: bytes,
    per_patient: int,
) -> DpConditions:
    """Conditions for a cohort, differentially private for each patient.

    Args:
        embeddings: (N, D) of the conditioning tiles; (N, 1, D) is taken as that.
        patients: (N,) number of the patient of each.
        labels: (N,) class of each, 0 to ``classes`` - 1.
        classes: C.
        settings: the budget.
        secret: of the site; the same input gives the same bytes.
        per_patient: conditions for each patient of a class, as the noised count has them. Public.

    Raises:
        SettingsError: epsilon or delta is out of range, delta is not below 1 / patients, the
            embeddings are grids, ``per_patient`` is below 1, or the secret is too short.
        AuditError: an embedding is zero or not finite, or the accountant contradicts the formula.
        ValueError: lengths differ, or a label is out of range.
    """
    flat = _without_grid(embeddings)
    _check(patients, settings, per_patient)
    noise = noise_for(settings.epsilon, settings.delta)
    sums = noised_sums(
        flat, patients, labels, classes,
        noise_multiplier=noise.multiplier, weights=settings.weights, secret=secret,
    )  # fmt: skip
    model = fit(sums, noise.multiplier, settings.weights)
    random = keyed_generator(secret, _PURPOSE, input_digest(flat, patients, labels))
    drawn, of = _draw(model, per_patient, random)
    return DpConditions(
        drawn, of, _guarantee(noise), model.signal, model.class_signal, model.factor.shape[1]
    )


@dataclass(frozen=True, eq=False)
class Model:
    """What the noised sums say of a cohort's embeddings: post-processing of them."""

    means: Doubles
    """(C, D) of embeddings at unit norm; norm at most 1."""
    factor: Doubles
    """(D, r) L: L L^T is the spread within classes that stands out of the noise."""
    scale: float
    """Norm of an embedding."""
    counts: Doubles
    """(C,) patients, at least 1 each."""
    signal: float
    class_signal: Doubles


def fit(sums: PatientSums, noise_multiplier: float, weights: Weights) -> Model:
    """Means, spread, scale and counts from noised sums.

    Class means are pulled to the mean of all by the positive part James-Stein factor (Efron and
    Morris, JASA 1973): what a class's difference from it has beyond its noise is kept.

    Args:
        sums: with noise.
        noise_multiplier: of that noise.
        weights: of the mechanism.
    """
    counts = np.maximum(sums.counts, 1.0)
    patients = counts.sum()
    deviation = noise_multiplier / weights.mean
    pooled = sums.means.sum(axis=0) / patients
    signal = _above_noise(pooled, deviation**2 * len(counts) / patients**2)
    pooled = _within_ball(pooled)
    shares = counts / patients
    means, kept = [], []
    for mean, count, share in zip(sums.means, counts, shares, strict=True):
        apart = mean / count - pooled
        own = (1 - share) ** 2 * (deviation / count) ** 2
        kept.append(_above_noise(apart, own + (len(counts) - 1) * (deviation / patients) ** 2))
        means.append(_within_ball(pooled + kept[-1] * apart))
    return Model(
        means=np.stack(means),
        factor=_spread(sums, np.stack(means), shares, patients, noise_multiplier, weights),
        scale=_scale(sums.norms),
        counts=counts,
        signal=signal,
        class_signal=np.array(kept),
    )


def _spread(
    sums: PatientSums,
    means: Doubles,
    shares: Doubles,
    patients: float,
    noise_multiplier: float,
    weights: Weights,
) -> Doubles:
    """(D, r) factor of the spread within classes, eigenvalues below the edge of the noise cut.

    The second moment minus that of the class means has two noises. A symmetric matrix of entries
    of variance s² / 2 beside the diagonal has its eigenvalues within s sqrt(2 D) (Wigner, Annals
    of Mathematics 1958). And a mean that is off by e, nearly at right angles to it, shifts them
    by at most |e| + |e|². The edge is the sum; a dimension of 1536 leaves nothing above it unless
    there are thousands of patients, and then a class has its mean alone and no noise for spread.
    """
    dim = means.shape[1]
    if not weights.spread:
        return np.zeros((dim, 0))
    off = noise_multiplier * math.sqrt(dim) / (weights.mean * patients * shares)
    edge = noise_multiplier * math.sqrt(2 * dim) / (weights.spread * patients)
    edge += float(np.sum(shares * (off + off**2)))
    within = sums.spread / patients - (means * shares[:, None]).T @ means
    values, vectors = np.linalg.eigh(within)
    above = values > edge
    factor: Doubles = vectors[:, above] * np.sqrt(values[above])
    return factor


def _draw(model: Model, per_patient: int, random: np.random.Generator) -> tuple[Floats, Ints]:
    """Conditions (M, D) at the cohort's norm and their classes (M,), in random order."""
    tiles = np.clip(np.rint(model.counts * per_patient), 1, _MOST).astype(np.int64)
    labels = random.permutation(np.repeat(np.arange(len(tiles)), tiles))
    found = np.empty((len(labels), model.means.shape[1]), np.float32)
    for row, label in enumerate(labels):
        spread = model.factor @ random.standard_normal(model.factor.shape[1])
        drawn = model.means[label] + spread
        found[row] = model.scale * drawn / np.linalg.norm(drawn)
    return found, labels


def _scale(norms: Doubles) -> float:
    """Norm of an embedding: mean of the grid about its highest point, on the log scale.

    The points further off are left out: there are many, and each holds noise.
    """
    top = int(norms.argmax())
    near = slice(max(0, top - 1), top + 2)
    mass = np.maximum(norms[near], 0.0)
    mean = float(mass @ NORM_GRID[near] / mass.sum()) if mass.sum() > 0 else NORM_GRID[top]
    return float(2.0**mean)


def _above_noise(vector: Doubles, variance: float) -> float:
    """James and Stein's positive part factor for noise of this variance per coordinate."""
    squared = float(vector @ vector)
    excess = 1.0 - max(len(vector) - 2, 1) * variance / squared if squared else 0.0
    return max(0.0, float(excess))


def _within_ball(vector: Doubles) -> Doubles:
    """At norm 1 where it is longer: no mean of unit vectors is."""
    scaled: Doubles = vector / max(1.0, float(np.linalg.norm(vector)))
    return scaled


def _guarantee(noise: Noise) -> Guarantee:
    return Guarantee(
        epsilon=noise.epsilon,
        delta=noise.delta,
        noise_multiplier=noise.multiplier,
        clip=1.0,
        unit="patient",
        adjacency="add or remove one patient",
        mechanism="one Gaussian mechanism",
        sampling="none: every patient takes part",
        steps=1,
        accountant=noise.accountant,
        accountant_version=noise.accountant_version,
    )


def _without_grid(embeddings: Floats) -> Floats:
    if embeddings.ndim == 3 and embeddings.shape[1] == 1:
        return embeddings[:, 0]
    if embeddings.ndim != 2:
        raise SettingsError(
            f"embeddings of shape {embeddings.shape[1:]} are grids; --dp-epsilon knows single ones",
            "use a generator with one embedding per tile, such as pixcell-256, or --mix",
        )
    return embeddings


def _check(patients: Ints, settings: DpSettings, per_patient: int) -> None:
    if per_patient < 1:
        raise SettingsError(f"{per_patient} conditions per patient", "ask for at least 1")
    count = len(np.unique(patients))
    if settings.delta * count >= 1:
        raise SettingsError(
            f"delta = {settings.delta:g} is not below 1 / {count}, one over the patients",
            f"use --dp-delta {0.1 / count:.0e} or less",
        )
