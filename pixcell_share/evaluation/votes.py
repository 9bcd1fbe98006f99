"""What the nearest training tiles of each query vote for, as Thunder computes it.

Thunder (thunder-bench 0.2.2) multiplies embeddings of norm 1 in single precision, sorts the
similarities of a query to *all* training tiles with ``argsort()[::-1]``, and lets the first k vote.
Here only the nearest few are picked out. Which are nearest hardly ever depends on more; where the
k-th and the next similarity are equal it does, on how NumPy sorts equal numbers, and then that
query alone is sorted as Thunder sorts it. So the votes are Thunder's, ties included.

The similarities themselves are those of the same product of the same numbers. OpenBLAS, which
comes with NumPy, gives each row of a product the same bits whatever other rows there are, but for a
product of one row alone, which is therefore avoided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_SCORES_BYTES = 1 << 28
"""Memory of a block of similarities."""


def unit_rows(rows: Floats) -> Singles:
    """Rows (N, D) in single precision at norm 1, rounded as Thunder rounds them."""
    single = np.asarray(rows, np.float32)
    normed: Singles = single / np.linalg.norm(single, axis=1, keepdims=True)
    return normed


def knn_votes(train: Floats, labels: Ints, queries: Floats, ks: Sequence[int]) -> dict[int, Ints]:
    """The class of each query, for each number of neighbours.

    Args:
        train: (N, D) embeddings, none zero throughout; N > 0.
        labels: (N,) classes, numbers from 0.
        queries: (Q, D) likewise.
        ks: numbers of neighbours; all N vote where k is larger.

    Returns:
        For each k (Q,) classes; of equal votes the lowest class wins.
    """
    keys, wanted = unit_rows(train), unit_rows(queries)
    found = {k: np.empty(len(wanted), np.int64) for k in ks}
    for part in _blocks(len(wanted), len(keys)):
        similarities = np.dot(wanted[part], keys.T)
        nearest = _nearest(similarities, sorted({min(k, len(keys)) for k in ks}))
        for k, classes in found.items():
            classes[part] = majority(labels[nearest[:, :k]])
    return found


def majority(votes: Ints) -> Ints:
    """(Q,) most frequent class of (Q, k) votes, the lowest of equals."""
    counts = np.stack([(votes == name).sum(axis=1) for name in range(int(votes.max()) + 1)], axis=1)
    best: Ints = counts.argmax(axis=1).astype(np.int64)
    return best


def _blocks(queries: int, keys: int) -> Iterator[slice]:
    """Parts of the queries whose similarities fit the memory; none is one query unless all are."""
    count = max(2, _SCORES_BYTES // (4 * keys))
    starts = list(range(0, max(queries - 1, 1), count))
    for start, stop in zip(starts, [*starts[1:], queries], strict=True):
        yield slice(start, stop)


def _nearest(similarities: Singles, ks: Sequence[int]) -> Ints:
    """(Q, max k) numbers of keys; the first k of a line are, as a set, Thunder's for each k."""
    most = ks[-1]
    keys = similarities.shape[1]
    values, found = torch.from_numpy(similarities).topk(min(most + 1, keys), dim=1)
    nearest: Ints = found[:, :most].numpy().copy()
    open_ks = torch.tensor([k for k in ks if k < keys], dtype=torch.int64)
    tied = (values[:, open_ks - 1] == values[:, open_ks]).any(dim=1)
    for query in tied.nonzero().ravel().tolist():
        nearest[query] = similarities[query].argsort()[::-1][:most]
    return nearest
