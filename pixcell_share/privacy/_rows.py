"""Rows of numbers as a search reads them: in portions, checked, in the format of a product."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Metric = Literal["cosine", "euclidean", "product"]


class RowSource(Protocol):
    """What rows may be besides an array or a memory map: see `RowStore`."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        """Rows (stop - start, D)."""
        ...

    def take(self, indices: Ints) -> NDArray[np.floating]:
        """Rows (K, D)."""
        ...


Rows = NDArray[np.floating] | RowSource


class Side:
    """Queries or rows of a search.

    Args:
        source: (N, D).
        metric: for ``cosine`` they are read at norm 1.
    """

    def __init__(self, source: Rows, metric: Metric) -> None:
        self._source = source
        self._unit = metric == "cosine"
        self.dim = int(self.take(np.arange(min(1, len(source)))).shape[1])

    def __len__(self) -> int:
        return len(self._source)

    def take(self, indices: Ints) -> NDArray[np.floating]:
        """Rows (K, D) as they are; read in one piece where ``indices`` follow one another."""
        if len(indices) and indices[-1] - indices[0] + 1 == len(indices):
            return self._span(int(indices[0]), int(indices[-1]) + 1)
        source = self._source
        return source[indices] if isinstance(source, np.ndarray) else source.take(indices)

    def read(self, indices: Ints, kind: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
        """Ascending rows (K, D) for a product, and their norms (K,) in double precision.

        Raises:
            ValueError: a number is not finite, or a row of zeros has no cosine.
        """
        found = np.ascontiguousarray(self.take(indices))
        rows = torch.tensor(found, device=device).to(_wide(kind))
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        if not bool(torch.isfinite(norms).all()) or (self._unit and bool((norms == 0).any())):
            raise ValueError("an embedding is zero or not finite")
        if self._unit:
            rows /= norms
            norms = torch.ones_like(norms)
        return rows.to(kind), norms[:, 0]

    def _span(self, start: int, stop: int) -> NDArray[np.floating]:
        source = self._source
        return source[start:stop] if isinstance(source, np.ndarray) else source.read(start, stop)


def _wide(kind: torch.dtype) -> torch.dtype:
    return torch.float64 if kind == torch.float64 else torch.float32


def pair_distances(
    queries: Side, rows: Side, pairs: tuple[Ints, Ints], metric: Metric, portion: int = 2048
) -> Doubles:
    """Distances (P,) of pairs (query, row), each from its own two rows in double precision."""
    found = np.empty(len(pairs[0]))
    for start in range(0, len(found), portion):
        part = slice(start, start + portion)
        one, other = (
            side.take(which[part]).astype(np.float64)
            for side, which in zip((queries, rows), pairs, strict=True)
        )
        found[part] = _distances(one, other, metric)
    return found


def _distances(one: Doubles, other: Doubles, metric: Metric) -> Doubles:
    """Row by row, (P,): NumPy adds along the last axis in an order that P does not change."""
    if metric == "euclidean":
        apart: Doubles = np.sqrt(np.square(one - other).sum(axis=1))
        return apart
    products: Doubles = (one * other).sum(axis=1)
    if metric == "product":
        return -products
    lengths = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
    turned: Doubles = np.maximum(1.0 - products / lengths, 0.0)
    return turned
