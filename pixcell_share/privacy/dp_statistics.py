"""What differentially private conditioning learns of a cohort: one noised sum over patients.

The unit is the *patient*; two cohorts are neighbours when one has a patient more. Of a patient P
with n tiles, n_c of them in class c, with unit embeddings u_i (D,) and embedding norms r_i, the
mechanism takes one vector of four parts:

    for each class c   a (n_c / n) m_c     m_c = mean of u_i over the patient's tiles of class c
                       b S                 S = mean of u_i u_i^T over all tiles of the patient
                       c h                 h = mean over all tiles of where log2 r_i lies on a grid
    for each class c   d (n_c / n)

a, b, c, d are public and a² + b² + c² + d² = 1.

**Its norm is at most 1.** |m_c| <= 1, |S| <= 1 (Frobenius) and |h| <= 1 as means of vectors of
norm at most 1, and the sum of (n_c / n)² over classes is at most (the sum of n_c / n)² = 1. So the
four parts have squared norms of at most a², b², c² and d². A patient with one tile on a grid point
reaches 1. The L2 sensitivity of the sum over patients is therefore 1, and Gaussian noise of
standard deviation z on every coordinate is one Gaussian mechanism of noise multiplier z.

S is symmetric: its upper triangle is noised, entries beside the diagonal times sqrt(2), which
keeps the Frobenius norm.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy._keyed import keyed_generator

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

NORM_GRID = np.arange(-3.0, 13.0)
"""Public grid of log2 of the norm of an embedding: 1/8 to 4096, which holds those of all
registered encoders several times over. One step is a doubling; a norm
between two points counts for both in proportion, and beyond the ends for the end."""

_PURPOSE = "pixcell-share patient statistics noise, version 1"
_ROWS = 4096  # tiles per block of the sums: memory depends on it


@dataclass(frozen=True)
class Weights:
    """Public weights of the four parts of a patient's vector; their squares add up to 1."""

    mean: float = math.sqrt(0.55)
    """a, of the class means: they carry the class, so they get the largest share."""
    spread: float = math.sqrt(0.25)
    """b, of the second moments; 0 leaves them out, as a large dimension may ask for."""
    norm: float = math.sqrt(0.1)
    """c, of the norms of the embeddings."""
    count: float = math.sqrt(0.1)
    """d, of the number of patients."""

    def __post_init__(self) -> None:
        """Refuse weights that would break the sensitivity.

        Raises:
            SettingsError: a weight is negative, one but ``spread`` is 0, or the squares of all do
                not add up to 1.
        """
        parts = (self.mean, self.spread, self.norm, self.count)
        positive = min(self.mean, self.norm, self.count) > 0 and self.spread >= 0
        if not positive or not math.isclose(math.fsum(w * w for w in parts), 1.0, abs_tol=1e-9):
            raise SettingsError(
                f"weights {parts} are not positive with squares that add up to 1",
                "leave them out for the default",
            )


@dataclass(frozen=True, eq=False)
class PatientSums:
    """Sums over patients, divided by their weights: exact, or with noise and then public."""

    means: Doubles
    """(C, D) sum of (n_c / n) m_c."""
    spread: Doubles
    """(D, D) sum of S, symmetric; zeros where its weight is 0."""
    norms: Doubles
    """(G,) sum of h, on `NORM_GRID`."""
    counts: Doubles
    """(C,) sum of n_c / n: patients per class."""


def patient_sums(
    embeddings: Floats, patients: Ints, labels: Ints, classes: int, *, spread: bool = True
) -> PatientSums:
    """The exact sums: private, never to be released.

    Args:
        embeddings: (N, D).
        patients: (N,) number of the patient of each tile.
        labels: (N,) class of each, 0 to ``classes`` - 1.
        classes: C; the list of classes is public.
        spread: whether to compute the second moments.

    Raises:
        AuditError: an embedding is zero or not finite.
        ValueError: lengths differ, or a label is out of range.
    """
    _check(embeddings, patients, labels, classes)
    _, own = np.unique(patients, return_inverse=True)
    share = 1.0 / np.bincount(own)[own]  # 1 / n of the tile's patient
    dim = embeddings.shape[1]
    means, second = np.zeros((classes, dim)), np.zeros((dim, dim))
    norms = np.zeros(len(NORM_GRID))
    for start in range(0, len(embeddings), _ROWS):
        rows = slice(start, start + _ROWS)
        unit, length = _unit(embeddings[rows])
        weighted = unit * share[rows, None]
        means += (labels[rows] == np.arange(classes)[:, None]).astype(np.float64) @ weighted
        if spread:
            second += weighted.T @ unit
        norms += share[rows] @ _on_grid(length)
    counts: Doubles = np.bincount(labels, weights=share, minlength=classes).astype(np.float64)
    return PatientSums(means, (second + second.T) / 2, norms, counts)


def noised_sums(
    embeddings: Floats,
    patients: Ints,
    labels: Ints,
    classes: int,
    *,
    noise_multiplier: float,
    weights: Weights,
    secret: bytes,
) -> PatientSums:
    """The sums with Gaussian noise: everything computed from them alone is post-processing.

    The noise is drawn by `keyed_generator` from the secret and a digest of the whole input, so
    that a resumed run gets the same bytes. *Any* other input or setting gets independent noise:
    noise that two inputs shared would cancel in their difference, and the difference of two
    cohorts that differ by a patient is that patient. The same noise at two sizes would cancel too.
    So a second release from a changed cohort is a second release, and is accounted as one.

    Two limits of the guarantee: it is against who cannot tell the keyed stream from random
    numbers; and the noise is in floating point, whose lowest bits can tell more than the real
    numbers of the theory (Mironov, CCS 2012). What leaves the site are pictures generated from
    draws in float32, not these sums.

    Args:
        embeddings: (N, D), as for `patient_sums`; patients and labels likewise.
        patients: (N,).
        labels: (N,).
        classes: C.
        noise_multiplier: standard deviation of the noise; the sensitivity is 1.
        weights: of the four parts.
        secret: of the site.

    Raises:
        AuditError, ValueError: as `patient_sums`.
        SettingsError: the secret is too short.
    """
    exact = patient_sums(embeddings, patients, labels, classes, spread=weights.spread > 0)
    digest = input_digest(embeddings, patients, labels)
    settings = [classes, float(noise_multiplier).hex(), [w.hex() for w in _parts(weights)]]
    random = keyed_generator(secret, _PURPOSE, digest, settings)

    def scaled(noise: Doubles, weight: float) -> Doubles:
        return noise * (noise_multiplier / weight) if weight else np.zeros_like(noise)

    return PatientSums(
        exact.means + scaled(random.standard_normal(exact.means.shape), weights.mean),
        exact.spread + scaled(_symmetric_noise(random, len(exact.spread)), weights.spread),
        exact.norms + scaled(random.standard_normal(exact.norms.shape), weights.norm),
        exact.counts + scaled(random.standard_normal(exact.counts.shape), weights.count),
    )


def _symmetric_noise(random: np.random.Generator, dim: int) -> Doubles:
    """(D, D) noise of variance 1 on the diagonal and 1/2 beside it.

    It is noise of variance 1 on the triangle whose entries beside the diagonal count sqrt(2).
    """
    square = random.standard_normal((dim, dim))
    return (square + square.T) / 2


def _parts(weights: Weights) -> tuple[float, float, float, float]:
    return weights.mean, weights.spread, weights.norm, weights.count


def input_digest(embeddings: Floats, patients: Ints, labels: Ints) -> str:
    """SHA-256 of everything that goes in, with its shape, in the order in which it came."""
    digest = hashlib.sha256(repr(embeddings.shape).encode())
    for array, kind in ((embeddings, "<f4"), (patients, "<i8"), (labels, "<i8")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()


def _unit(embeddings: Floats) -> tuple[Doubles, Doubles]:
    """Embeddings at unit norm (B, D), and their norms (B,)."""
    length = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    return embeddings / length[:, None], length


def _on_grid(length: Doubles) -> Doubles:
    """(B, G): where each norm lies on `NORM_GRID`; non-negative, rows add up to 1."""
    place = np.clip(np.log2(length) - NORM_GRID[0], 0, len(NORM_GRID) - 1)
    steps = np.abs(place[:, None] - np.arange(len(NORM_GRID)))
    shares: Doubles = np.maximum(0.0, 1.0 - steps)
    return shares


def _check(embeddings: Floats, patients: Ints, labels: Ints, classes: int) -> None:
    if not len(embeddings) == len(patients) == len(labels) or embeddings.ndim != 2:
        raise ValueError("embeddings (N, D), patients (N,) and labels (N,) do not fit together")
    if not len(embeddings) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"no tile, or a label outside 0 to {classes - 1}")
    if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
        raise AuditError(
            "an embedding is zero or not finite", "run again with --dtype fp32, or another encoder"
        )
