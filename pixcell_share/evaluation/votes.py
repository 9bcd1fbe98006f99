"""What the nearest training tiles of each query vote for, as Thunder computes it.

Thunder (thunder-bench 0.2.2) multiplies embeddings of norm 1 in single precision, sorts the
similarities of a query to *all* training tiles with ``argsort()[::-1]``, and lets the first k vote.
Which class wins hardly ever depends on the last digits of a similarity, or on how NumPy orders
equal ones. So three ways lead to Thunder's vote, each only for queries that the one before leaves
in doubt, because errors could change it:

1. a product in whole numbers (`int8_screen`), where the processor is made for it;
2. the candidates' similarities in single precision, pair by pair;
3. Thunder's own: the same product, sorted the same way.

The third gives Thunder's bits, ties included, since OpenBLAS, which comes with NumPy, gives a row
of a product the same bits whatever other rows there are (a product of a single row excepted).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixcell_share.evaluation.int8_screen import CHUNK, Int8Screen, has_int8_products
from pixcell_share.evaluation.settle import Ballot, Candidates
from pixcell_share.prefetch import prefetch

Floats = NDArray[np.floating[Any]]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_THUNDERS_CHUNK = 10_000
"""Queries of one product in Thunder: one that is alone in it has other bits."""
_SCREENED = 16_384
"""Training tiles from which the first way pays."""
_SCORES_BYTES = 1 << 28
"""Memory of a block of similarities."""
_PORTION, _PAIRS = 1024, 2048


def unit_rows(rows: Floats) -> Singles:
    """Rows (N, D) in single precision at norm 1, rounded as Thunder rounds them."""
    normed = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _PORTION):
        part = slice(start, start + _PORTION)
        single = np.asarray(rows[part], np.float32)
        np.divide(single, np.linalg.norm(single, axis=1, keepdims=True), out=normed[part])
    return normed


class Voters:
    """Training tiles that vote on queries.

    Args:
        train: (N, D) embeddings, none zero throughout; N > 0.
        labels: (N,) classes, numbers from 0.
    """

    def __init__(self, train: Floats, labels: Ints) -> None:
        self._keys, self._labels = unit_rows(train), labels
        self._classes = int(labels.max()) + 1
        screened = len(train) >= _SCREENED and has_int8_products()
        self._screen = Int8Screen(self._keys) if screened else None
        # Largest error of a product in single precision, in whatever order it is added
        # (N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5), ours and
        # Thunder's added.
        self._rounding = 2 * self._keys.shape[1] * 2.0**-24

    def votes(self, queries: Floats, ks: Sequence[int]) -> dict[int, Ints]:
        """The class of each query, for each number of neighbours.

        Args:
            queries: (Q, D) embeddings, none zero throughout.
            ks: numbers of neighbours; all N vote where k is larger.

        Returns:
            For each k (Q,) classes; of equal votes the lowest class wins.
        """
        possible = sorted({min(k, len(self._keys)) for k in ks})
        votes = np.empty((len(queries), len(possible)), np.int64)
        for start in range(0, len(queries), _THUNDERS_CHUNK):
            part = slice(start, start + _THUNDERS_CHUNK)
            votes[part] = self._chunk(unit_rows(queries[part]), possible)
        return {k: votes[:, possible.index(min(k, len(self._keys)))] for k in ks}

    def _chunk(self, queries: Singles, ks: Sequence[int]) -> Ints:
        """(Q, K) classes of one of Thunder's chunks of queries."""
        votes = np.empty((len(queries), len(ks)), np.int64)
        doubtful = np.arange(len(queries))
        if self._screen is not None and len(queries) > 1 and ks[-1] < _SCREENED // 2:
            doubtful = self._screened(self._screen, queries, ks, votes)
        for part in _blocks(doubtful, len(queries), len(self._keys)):
            nearest = _nearest(np.dot(queries[part], self._keys.T), ks)
            votes[part] = np.stack([majority(self._labels[nearest[:, :k]]) for k in ks], axis=1)
        return votes

    def _screened(
        self, screen: Int8Screen, queries: Singles, ks: Sequence[int], votes: Ints
    ) -> Ints:
        """Fill in the votes of the queries; returns those that stay in doubt."""
        parts = [np.arange(len(queries))[i : i + CHUNK] for i in range(0, len(queries), CHUNK)]
        candidates = ((part, screen.candidates(queries[part], ks[-1])) for part in parts)
        doubtful = []
        for part, found in prefetch(candidates, 1):
            if found is None:
                doubtful.append(part)
                continue
            votes[part], certain = self._decide(queries[part], found, ks)
            doubtful.append(part[~certain])
        return np.concatenate(doubtful)

    def _decide(
        self, queries: Singles, found: Candidates, ks: Sequence[int]
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """(Q, K) votes, and (Q,) whether all of a query are certain."""
        named, certain = self._settle(found, ks)
        again = np.flatnonzero(found.complete & ~certain.all(axis=1))
        refined = self._refined(queries, found, again, np.where(certain, 0, ks))
        finer, sure = self._settle(refined, ks)
        named[again] = np.where(certain[again], named[again], finer)
        certain[again] |= sure
        return named, certain.all(axis=1) & found.complete

    def _settle(self, found: Candidates, ks: Sequence[int]) -> tuple[Ints, NDArray[np.bool_]]:
        """(Q, K) votes, and whether they are certain."""
        ballot = Ballot(found, self._labels, self._classes)
        named, certain = zip(*(ballot.settle(k) for k in ks), strict=True)
        return np.stack(named, axis=1), np.stack(certain, axis=1)

    def _refined(
        self, queries: Singles, found: Candidates, lines: Ints, doubtful: Ints
    ) -> Candidates:
        """The candidates of some lines with similarities in single precision.

        Only what can be among the nearest for the largest k in doubt is computed anew, and stays.

        Args:
            queries: (Q, D)
            found: their candidates.
            lines: which.
            doubtful: (Q, K) each k, or 0 where it is not in doubt.
        """
        rough, most = found.similarities[lines], doubtful[lines].max(axis=1)
        limit = rough[np.arange(len(lines)), most - 1] - 2 * found.radius[lines]
        rows, columns = np.nonzero(rough >= limit[:, None])
        keys, exact = found.keys[lines], np.full(rough.shape, -np.inf, np.float32)
        exact[rows, columns] = _products(queries, self._keys, lines[rows], keys[rows, columns])
        best = np.argsort(-exact, axis=1)
        return Candidates(
            np.take_along_axis(keys, best, axis=1),
            np.take_along_axis(exact, best, axis=1),
            np.full(len(lines), self._rounding, np.float32),
            found.complete[lines],
        )


def majority(votes: Ints) -> Ints:
    """(Q,) most frequent class of (Q, k) votes, the lowest of equals."""
    counts = np.stack([(votes == name).sum(axis=1) for name in range(int(votes.max()) + 1)], axis=1)
    best: Ints = counts.argmax(axis=1).astype(np.int64)
    return best


def _products(one: Singles, other: Singles, lines: Ints, columns: Ints) -> Singles:
    """(P,) products of pairs of rows."""
    found = np.empty(len(lines), np.float32)
    for start in range(0, len(lines), _PAIRS):
        part = slice(start, start + _PAIRS)
        np.einsum("ij,ij->i", one[lines[part]], other[columns[part]], out=found[part])
    return found


def _blocks(chosen: Ints, queries: int, keys: int) -> Iterator[Ints]:
    """The chosen queries in parts whose similarities fit the memory.

    No part is one query unless there is no other: one that is alone is taken twice.
    """
    count = max(2, _SCORES_BYTES // (4 * keys))
    for start in range(0, len(chosen), count):
        part = chosen[start : start + count]
        yield np.repeat(part, 2) if len(part) == 1 < queries else part


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
