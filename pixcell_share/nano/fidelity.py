"""Does a synthetic tile follow the tile that conditioned it? Colour, class, and its own group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixcell_share.nano.tiles import Images

Features = NDArray[np.float64]


def psnr(first: Images, second: Images) -> float:
    """Mean peak signal-to-noise ratio in dB of pairs of pictures (N, H, W, 3)."""
    squared = np.square(first.astype(np.float64) - second).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(squared, 1e-9))))


def colour_agreement(synthetic: Images, real: Images) -> dict[str, float]:
    """Mean colours of pairs (N, H, W, 3): correlation and distance, own against shuffled.

    Shuffled pairs each synthetic tile with the condition half the list away.
    """
    mine, theirs = synthetic.mean(axis=(1, 2)), real.mean(axis=(1, 2))
    other = np.roll(theirs, len(theirs) // 2, axis=0)
    return {
        "correlation_own": _correlation(mine, theirs),
        "correlation_shuffled": _correlation(mine, other),
        "grey_levels_own": float(np.abs(mine - theirs).mean()),
        "grey_levels_shuffled": float(np.abs(mine - other).mean()),
    }


def _correlation(first: Features, second: Features) -> float:
    """Pearson's, mean over red, green and blue; 0 where a colour does not vary."""
    one, two = first - first.mean(0), second - second.mean(0)
    spread = np.sqrt(np.square(one).sum(0) * np.square(two).sum(0))
    return float(np.mean((one * two).sum(0) / np.maximum(spread, 1e-12)))


class ClassProbe:
    """A ridge classifier on standardised embeddings, fitted to training tiles."""

    def __init__(self, features: Features, labels: NDArray[np.str_], ridge: float = 10.0) -> None:
        self._names, codes = np.unique(labels, return_inverse=True)
        self._mean, self._deviation = features.mean(0), features.std(0) + 1e-6
        x = self._extended(features)
        target = 2.0 * np.eye(len(self._names))[codes] - 1
        self._weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ target)

    def accuracy(self, features: Features, labels: NDArray[np.str_]) -> float:
        """Share of (N, D) whose predicted class is the label."""
        predicted = self._names[np.argmax(self._extended(features) @ self._weights, axis=1)]
        return float(np.mean(predicted == labels))

    def _extended(self, features: Features) -> Features:
        standard = (features - self._mean) / self._deviation
        return np.concatenate([standard, np.ones((len(standard), 1))], axis=1)


def finds_group(
    queries: Features, gallery: Features, groups: NDArray[np.str_], gallery_groups: NDArray[np.str_]
) -> float:
    """Share of queries (N, D) whose nearest gallery row (M, D), by cosine, is of their group."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    nearest = np.argmax(unit[0] @ unit[1].T, axis=1)
    return float(np.mean(gallery_groups[nearest] == groups))
