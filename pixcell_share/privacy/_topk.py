"""Exact top-k by matrix products in blocks: never more than one block of scores in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Score = Callable[[Floats], Floats]


def top_k(score: Score, blocks: Iterable[Floats], queries: int, k: int) -> tuple[Indices, Floats]:
    """The k best rows for each query, over all blocks.

    Args:
        score: gives the scores (Q, R) of the queries with a block of R rows.
        blocks: the rows, in order; their indices count from 0 through all blocks.
        queries: Q.
        k: how many to keep; fewer come back where there are fewer rows.

    Returns:
        Indices (Q, k) and scores (Q, k), best first; of equal scores the lower index first.
    """
    indices = np.empty((queries, 0), dtype=np.int64)
    scores = np.empty((queries, 0), dtype=np.float32)
    start = 0
    for block in blocks:
        found = score(block)
        columns = _best_columns(found, k)
        scores = np.concatenate([scores, np.take_along_axis(found, columns, axis=1)], axis=1)
        indices = np.concatenate([indices, columns + start], axis=1)
        order = np.lexsort((indices, -scores), axis=1)[:, :k]
        indices = np.take_along_axis(indices, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
        start += len(block)
    return indices, scores


def _best_columns(scores: Floats, k: int) -> Indices:
    """Columns of the k best scores of each row; the first of equal ones, as argmax does.

    Scores already taken are overwritten: the array belongs to this module.
    """
    rows = np.arange(len(scores))
    chosen = np.empty((len(scores), min(k, scores.shape[1])), dtype=np.int64)
    taken = np.empty(chosen.shape, dtype=np.float32)
    for place in range(chosen.shape[1]):
        chosen[:, place] = scores.argmax(axis=1)
        taken[:, place] = scores[rows, chosen[:, place]]
        scores[rows, chosen[:, place]] = -np.inf
    np.put_along_axis(scores, chosen, taken, axis=1)
    return chosen
