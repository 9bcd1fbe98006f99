"""Votes of neighbours whose similarities are known only up to an error: which are beyond doubt?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Training tiles that can be among the nearest of each of Q queries, the likeliest first."""

    keys: Ints
    """(Q, m) numbers of training tiles; any where there is none."""
    similarities: Singles
    """(Q, m), falling, up to one number that all of a query share; -inf where there is none."""
    radius: Singles
    """(Q,) largest error of a similarity."""
    complete: Truths
    """(Q,) whether none is missing that can be among the nearest."""


class Ballot:
    """What the candidates of Q queries vote.

    Args:
        found: the candidates; m of each query.
        labels: (N,) classes of the training tiles.
        classes: how many there are.
    """

    def __init__(self, found: Candidates, labels: Ints, classes: int) -> None:
        self._found = found
        queries, width = found.keys.shape
        votes = labels[found.keys][:, :, None] == np.arange(classes)
        self._first = np.zeros((queries, width + 1, classes), np.int32)
        """``[q, n, c]``: votes for class c among the first n candidates of query q."""
        np.cumsum(votes, axis=1, out=self._first[:, 1:])

    def settle(self, k: int) -> tuple[Ints, Truths]:
        """The vote of the k nearest, and whether the errors can change it.

        A tile is surely among the k nearest if it is better than the k-th by more than twice the
        largest error, and possibly if it is not worse by more. Of those that are possible only, the
        worst choice for the winner is assumed.

        Args:
            k: at most m.

        Returns:
            (Q,) classes, of equals the lowest, and (Q,) whether they are certain.
        """
        similarities = self._found.similarities
        last, twice = similarities[:, k - 1 : k], 2 * self._found.radius[:, None]
        lines = np.arange(len(similarities))
        sure = self._first[lines, (similarities > last + twice).sum(axis=1)]
        possible = self._first[lines, (similarities >= last - twice).sum(axis=1)]
        winner: Ints = self._first[:, k].argmax(axis=1)
        return winner, _certain(winner, sure, possible - sure, k)


def _certain(winner: Ints, sure: NDArray[np.int32], rivals: NDArray[np.int32], k: int) -> Truths:
    """(Q,) whether ``winner`` wins however the open places are filled.

    Args:
        winner: (Q,)
        sure: (Q, C) votes of each class that are certain.
        rivals: (Q, C) tiles of each class that compete for the other places.
        k: all places.
    """
    lines = np.arange(len(winner))
    places = k - sure.sum(axis=1)
    others = rivals.sum(axis=1) - rivals[lines, winner]
    least = sure[lines, winner] + np.maximum(0, places - others)
    most = sure + np.minimum(rivals, places[:, None])
    most[np.arange(sure.shape[1]) < winner[:, None]] += 1  # a lower class wins with as many votes
    most[lines, winner] = -1
    certain: Truths = most.max(axis=1) <= least
    return certain
