"""Rows of numbers as a search reads them: in portions, checked, in the format of a product."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
_CACHED = 64

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


class Portion(NamedTuple):
    """Some rows, as a product takes them."""

    rows: Tensor
    """(K, D), centred."""
    norms: Tensor
    """(K,) of the centred rows, in double precision."""
    along: Tensor
    """(K,) their products with the centre."""
    sizes: Tensor
    """(K,) norms of the rows before they were centred."""


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
        if len(indices) and (np.diff(indices) == 1).all():
            return self._span(int(indices[0]), int(indices[-1]) + 1)
        source = self._source
        return source[indices] if isinstance(source, np.ndarray) else source.take(indices)

    def read(self, indices: Ints, kind: torch.dtype, device: str, centre: Tensor) -> Portion:
        """Rows (K, D) for a product; on a CPU in portions that stay in its cache.

        Args:
            indices: which.
            kind: number format of the product.
            device: where it is computed.
            centre: (D,) in double precision, taken off every row.

        Raises:
            ValueError: a number is not finite, or a row of zeros has no cosine.
        """
        step = _CACHED if device == "cpu" else max(1, len(indices))
        found = Portion(
            torch.empty(len(indices), self.dim, dtype=kind, device=device),
            *(torch.empty(len(indices), dtype=torch.float64, device=device) for _ in range(3)),
        )
        for start in range(0, len(indices), step):
            part = slice(start, start + step)
            self._fill(Portion(*(values[part] for values in found)), indices[part], centre)
        if not bool(torch.isfinite(found.sizes).all()):
            raise ValueError("an embedding is zero or not finite")
        return found

    def _fill(self, portion: Portion, indices: Ints, centre: Tensor) -> None:
        wide = torch.float64 if portion.rows.dtype == torch.float64 else torch.float32
        rows = torch.tensor(self.take(indices), device=centre.device).to(wide)
        sizes = _norms(rows)
        if self._unit:
            rows /= sizes[:, None].to(wide)  # not a number where it was zero
            sizes /= sizes
        rows -= centre.to(wide)
        portion.rows.copy_(rows)
        portion.norms.copy_(_norms(rows))
        portion.along.copy_(rows @ centre.to(wide))
        portion.sizes.copy_(sizes)

    def _span(self, start: int, stop: int) -> NDArray[np.floating]:
        source = self._source
        return source[start:stop] if isinstance(source, np.ndarray) else source.read(start, stop)


def _norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


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
