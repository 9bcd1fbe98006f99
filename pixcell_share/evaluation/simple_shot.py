"""SimpleShot: the class whose mean of a few tiles is nearest, over many draws of these tiles.

Embeddings are centred at the mean of the drawn tiles, and compared with the mean of each class by
cosine (Wang et al., arXiv:1911.04623). Each test tile gets the class that most draws give it, the
lowest of equals, as in Thunder (thunder-bench 0.2.2).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import Embedded, FewShot, Ints, Singles
from pixcell_share.evaluation.votes import unit_rows

SHOTS = (1, 2, 4, 8, 16)
"""Numbers of tiles of each class, as in Thunder."""
DRAWS = 1000


def draw_few_shot(
    labels: Ints, shots: Sequence[int] = SHOTS, *, draws: int = DRAWS, seed: int = 0
) -> FewShot:
    """Draw tiles of each class without replacement, ``draws`` times.

    Numbers of shots that the smallest class cannot give are left out.

    Args:
        labels: (N,) classes of the training tiles.
        shots: tiles of each class.
        draws: how often.
        seed: of `random.Random`.

    Returns:
        (draws, shots x classes) rows for each number of shots, classes in order of appearance.

    Raises:
        DataError: a class has fewer tiles than the smallest number of shots.
    """
    rng = random.Random(seed)
    rows = [np.flatnonzero(labels == name).tolist() for name in dict.fromkeys(labels.tolist())]
    smallest = min(map(len, rows))
    possible = [count for count in shots if count <= smallest]
    if not possible:
        raise DataError(
            f"a class has {smallest} training tiles, fewer than {min(shots)}",
            "give more tiles, or run another task",
        )
    return FewShot(
        {
            count: np.array(
                [[row for own in rows for row in rng.sample(own, count)] for _ in range(draws)]
            )
            for count in possible
        }
    )


def simple_shot_votes(train: Embedded, draws: Ints, test: Singles) -> Ints:
    """(M,) the class that most draws give each test tile.

    Args:
        train: the training part.
        draws: (R, S) rows of it; in each draw the same classes.
        test: (M, D) embeddings.
    """
    votes = np.zeros((len(test), int(train.labels.max()) + 1), np.int64)
    everyone = np.arange(len(test))
    for rows in draws:
        votes[everyone, _nearest_class(train.embeddings[rows], train.labels[rows], test)] += 1
    best: Ints = votes.argmax(axis=1)
    return best


def _nearest_class(support: Singles, labels: Ints, test: Singles) -> Ints:
    """(M,) class of the nearest class mean, in single precision as Thunder computes it."""
    centre = support.mean(axis=0)
    centred = support - centre
    names = list(dict.fromkeys(labels.tolist()))
    means = unit_rows(np.stack([centred[labels == name].mean(axis=0) for name in names]))
    similarities = np.dot(unit_rows(test - centre), means.T)
    return np.array(names, np.int64)[_highest(similarities)]


def _highest(values: NDArray[np.float32]) -> Ints:
    """(M,) column of the highest value of each line; of equal ones the one that Thunder takes."""
    best: Ints = values.argmax(axis=1)
    ties = (values == values.max(axis=1, keepdims=True)).sum(axis=1) > 1
    for line in np.flatnonzero(ties):
        best[line] = values[line].argsort()[-1]
    return best
