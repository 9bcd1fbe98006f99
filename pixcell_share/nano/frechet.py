"""The Fréchet distance between two samples of feature vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Features = NDArray[np.float64]


def frechet_distance(first: Features, second: Features) -> float:
    """Squared 2-Wasserstein distance of the Gaussians fitted to (N, D) and (M, D).

    ``|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½)``: Dowson & Landau 1982 (J Multivar Anal 12:450), as
    Heusel et al. 2017 (arXiv 1706.08500) use it. It is biased upwards for small samples, so it
    means something only beside a distance between real samples of the same sizes.
    """
    offset = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # tr (S1 S2)^½ is the sum of the square roots of the eigenvalues of S1 S2, all real and >= 0.
    roots = np.sqrt(np.clip(linalg.eigvals(one @ two).real, 0, None))
    return float(offset @ offset + np.trace(one) + np.trace(two) - 2 * roots.sum())


@dataclass(frozen=True)
class Whitening:
    """The leading principal directions of training features, each scaled to deviation 1."""

    mean: Features
    directions: Features
    """(D, K)"""

    @classmethod
    def fit(cls, features: Features, keep: int) -> Whitening:
        """From (N, D) features of training tiles."""
        mean = features.mean(0)
        values, vectors = linalg.eigh(np.cov(features, rowvar=False))
        order = np.argsort(values)[::-1][:keep]
        return cls(mean, vectors[:, order] / np.sqrt(np.maximum(values[order], 1e-12)))

    def __call__(self, features: Features) -> Features:
        """(N, D) to (N, K)."""
        whitened: Features = (features - self.mean) @ self.directions
        return whitened
