"""The spaces in which the attacks compare: embeddings of the audit's encoder, made comparable.

An encoder spends most of its variance on stain and on cell density, which all tiles of a class
share. What tells one patient from another lies in the many small directions, so an attacker
evens them out first: ``python benchmarks/linkage.py`` measures by how much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixcell_share.privacy.sample import AuditSample, Floats, Ints

Values = NDArray[np.float64]

_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map to K directions, then norm 1: the cosine decides what is near."""

    mean: Values
    """(D,)"""
    matrix: Values
    """(D, K)"""

    def __call__(self, embeddings: Floats) -> Floats:
        """(N, K) at norm 1; rows equal to the mean stay 0."""
        mapped = (embeddings - self.mean) @ self.matrix
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        found: Floats = np.divide(mapped, norms, out=np.zeros_like(mapped), where=norms > _LEAST)
        return found.astype(np.float32)

    @classmethod
    def of(cls, embeddings: Floats) -> Whitening:
        """Fit to N > 0 real tiles (N, D).

        Dimensions are brought to deviation 1 (constant ones are dropped); of the principal
        directions the first N / 2 at most are kept, and scaled to deviation 1. Smaller ones, which
        N tiles cannot tell from noise, drown the rest: with 180 tiles in 192 or 512 dimensions
        all of them made the attack as weak as none, and a half to a third of N was the best
        of all that was tried, and of shrinkage too.
        """
        rows = embeddings.astype(np.float64)
        mean, scale = _scales(rows)
        rows = (rows - mean) * scale
        values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
        kept = np.argsort(-values, kind="stable")[: max(1, len(rows) // 2)]
        kept = kept[values[kept] > _LEAST * max(float(values.max()), _LEAST)]
        if not len(kept):
            return cls(mean, np.zeros((len(mean), 1)))
        return cls(mean, scale[:, None] * vectors[:, kept] / np.sqrt(values[kept]))


def standardised(sample: AuditSample) -> AuditSample:
    """The same sample with every dimension at mean 0 and deviation 1 over the real tiles.

    Dimensions that are constant there become 0. For comparisons in which real tiles of one group
    serve as a reference: whitening would fit some groups better than others.
    """
    groups = (sample.conditioning, sample.probes, sample.holdout)
    rows = np.concatenate([group.embeddings for group in groups])
    mean, scale = _scales(rows.astype(np.float64))

    def mapped(embeddings: Floats) -> Floats:
        return ((embeddings - mean) * scale).astype(np.float32)

    return replace(
        sample,
        synthetic=mapped(sample.synthetic),
        conditioning=sample.conditioning.mapped(mapped),
        probes=sample.probes.mapped(mapped),
        holdout=sample.holdout.mapped(mapped),
    )


def _scales(rows: Values) -> tuple[Values, Values]:
    """Mean (D,) of rows (N, D), and one over their deviation (D,), 0 where they are constant."""
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    used = deviation > _LEAST * (1.0 + np.abs(mean))
    return mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=used)


def few_of_each(patients: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Rows of at most ``most`` tiles of each patient (N,), drawn at random, in order of patient."""
    drawn = rng.permutation(len(patients))
    rows = drawn[np.argsort(patients[drawn], kind="stable")]
    _, starts, sizes = np.unique(patients[rows], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(starts, sizes)
    chosen: Ints = rows[place < most].astype(np.int64)
    return chosen
