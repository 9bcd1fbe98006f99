"""Which training tiles can be among the nearest, from a product in whole numbers.

A processor that multiplies 8-bit numbers (VNNI) does it four times as fast as single precision, and
the sum is exact. So the error of a similarity is that of rounding its factors. They are rounded up
or down at random, with the chances that make it right on average; then the errors of the numbers
of a row are independent, of mean 0 and within one step s, and by Hoeffding's inequality (J. Am.
Stat. Assoc. 58, 1963, theorem 2) their sum, weighted with a vector v, exceeds ``s |v| t`` with
probability ``2 exp(-2 t^2)`` at most: 10^-18 for t = `_STEPS`, 10^-8 for all pairs of a large
evaluation together.

Embeddings are first centred and turned by a random rotation, which changes no comparison of
similarities. Without it a few large numbers in each embedding would make the steps large for all.

A threshold for each query is guessed from the first block of tiles; what exceeds it is a candidate.
At the end it is known whether the guess was low enough.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.evaluation.settle import Candidates

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

CHUNK, _BLOCK = 512, 8192
"""Queries and tiles of a product: its sums (16 MiB) then stay in the cache of most processors."""
_TOP = 127
_STEPS = math.sqrt(math.log(2e18) / 2)
_MOST = 1500
"""Candidates of a query up to which it is worth while."""


def has_int8_products() -> bool:
    """Whether this processor multiplies 8-bit numbers fast and this torch can tell it to."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and vnni is not None and bool(vnni())


class Int8Screen:
    """Training tiles, ready to be searched.

    Args:
        keys: (N, D) embeddings of norm 1.
    """

    def __init__(self, keys: Singles) -> None:
        dim = keys.shape[1]
        self._rng = np.random.default_rng(0)
        turn, _ = np.linalg.qr(self._rng.standard_normal((dim, dim)))
        self._rotation = turn.astype(np.float32)
        self._keys = self._rng.permutation(len(keys))  # any block is a fair sample
        # Both factors are rotated in single precision: N. Higham, Accuracy and Stability of
        # Numerical Algorithms, 2002, eq. 3.5, for each of their D numbers.
        self._rotating = 2 * math.sqrt(dim) * dim * 2.0**-24
        turned, highest = self._turn(keys)
        self._step = max(highest / _TOP, 1e-9)  # above 0 also where all keys are equal
        self._rounded = torch.empty(turned.shape, dtype=torch.int8)
        self._longest = 0.0  # norm of a rounded key
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            whole = self._round(turned[part] / self._step)
            self._rounded[part] = torch.from_numpy(whole)
            longest = math.sqrt(np.einsum("ij,ij->i", whole, whole).max())
            self._longest = max(self._longest, longest * self._step)

    def candidates(self, queries: Singles, k: int) -> Candidates | None:
        """What can be among the nearest k of each query; None where that is too much.

        Args:
            queries: (Q, D) of norm 1, at most `CHUNK`.
            k: below the number of training tiles.
        """
        turned = queries @ self._rotation
        steps = np.abs(turned).max(axis=1) / _TOP
        numbers = torch.from_numpy(self._round(turned / steps[:, None]).astype(np.int8))
        radius = _STEPS * (steps * self._longest + self._step) + self._rotating
        unit = steps * self._step
        found = self._exceeding(numbers, k, radius / unit)
        if found is None:
            return None
        lines, columns, sums, threshold = found
        keys, similarities = _by_query(lines, self._keys[columns], sums * unit[lines], len(queries))
        if similarities.shape[1] < k:
            return None
        last = similarities[:, k - 1] - 2 * radius
        width = int((similarities >= last[:, None]).sum(axis=1).max())
        complete = threshold * unit <= last
        return Candidates(keys[:, :width], similarities[:, :width], radius, complete)

    def _turn(self, keys: Singles) -> tuple[Singles, float]:
        """The keys, shuffled, centred and rotated, and the largest of their numbers."""
        mean, highest = keys.mean(axis=0), 0.0
        turned = np.empty_like(keys)
        rotation = torch.from_numpy(self._rotation)
        for start in range(0, len(keys), _BLOCK):
            part = slice(start, start + _BLOCK)
            centred = torch.from_numpy(keys[self._keys[part]] - mean)
            found = torch.mm(centred, rotation, out=torch.from_numpy(turned[part]))
            highest = max(highest, float(found.abs().max()))
        return turned, highest

    def _round(self, values: Singles) -> Singles:
        """Whole numbers: each value rounded down or up, and right on average."""
        drawn = self._rng.random(values.shape, np.float32)
        whole: Singles = np.floor(values + drawn)
        return whole.clip(-_TOP, _TOP, out=whole)  # in single precision 127 + 0.99... is 128

    def _exceeding(
        self, queries: Tensor, k: int, radius: Singles
    ) -> tuple[Ints, Ints, NDArray[np.int32], Ints] | None:
        """Pairs (query, place) above the threshold with their sums, and the thresholds (Q,)."""
        first = self._product(queries, 0)
        threshold = self._guess(first, k) - np.ceil(2 * radius).astype(np.int64)
        pairs = [_above(first, threshold, 0)]
        blocks = len(self._keys) / first.shape[1]
        if len(pairs[0][0]) * blocks > _MOST * len(queries):
            return None
        for start in range(_BLOCK, len(self._keys), _BLOCK):
            pairs.append(_above(self._product(queries, start), threshold, start))
        lines, columns, sums = (np.concatenate(each) for each in zip(*pairs, strict=True))
        return lines, columns, sums, threshold

    def _product(self, queries: Tensor, start: int) -> NDArray[np.int32]:
        """(Q, W) sums of the queries with a block of tiles."""
        block = self._rounded[start : start + _BLOCK]
        return torch._int_mm(queries, block.T).numpy()

    def _guess(self, first: NDArray[np.int32], k: int) -> Ints:
        """(Q,) sums that the k-th best of all tiles should exceed, but for a miss in thousands."""
        expected = k * first.shape[1] / len(self._keys)
        rank = min(first.shape[1], math.ceil(expected + 3 * math.sqrt(expected)) + 1)
        return torch.from_numpy(first).topk(rank, dim=1).values[:, -1].long().numpy()


def _above(
    sums: NDArray[np.int32], threshold: Ints, start: int
) -> tuple[Ints, Ints, NDArray[np.int32]]:
    """Lines, places and values of the sums (Q, W) that reach their line's threshold."""
    limit = np.clip(threshold, -(2**31), 2**31 - 1).astype(np.int32)
    flat = np.flatnonzero(sums >= limit[:, None])
    return flat // sums.shape[1], flat % sums.shape[1] + start, sums.ravel()[flat]


def _by_query(lines: Ints, keys: Ints, values: NDArray[Any], queries: int) -> tuple[Ints, Singles]:
    """Pairs as a table (Q, m): keys and values of each query, the highest value first."""
    counts = np.bincount(lines, minlength=queries)
    order = np.argsort(lines, kind="stable")
    places = np.arange(len(lines)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = queries, int(counts.max(initial=0))
    table, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    table[lines[order], places], scores[lines[order], places] = keys[order], values[order]
    best = np.argsort(-scores, axis=1)
    return np.take_along_axis(table, best, axis=1), np.take_along_axis(scores, best, axis=1)
