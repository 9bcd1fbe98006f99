"""Which rows can be among the nearest: products of blocks, and the best few of each block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Level = Literal["bf16", "tf32", "fp32", "fp64"]

_GROUP = 64
"""Columns of a block of scores that are first reduced to their highest."""
_TIE = 1e-11
_FACTOR_ERROR: dict[Level, float] = {"bf16": 3 * 2.0**-9, "tf32": 2.0**-9, "fp32": 0.0, "fp64": 0.0}
"""Two factors rounded to 8 bits and the product to as many; two factors cut to 10 bits and 1."""
_SUM_ERROR: dict[Level, float] = {
    "bf16": 2.0**-22,
    "tf32": 2.0**-22,
    "fp32": 2.0**-24,
    "fp64": 2.0**-53,
}
"""Unit roundoff of one addition; four times that of fp32 where tensor cores may truncate."""
_STORED: dict[Level, torch.dtype] = {
    "bf16": torch.bfloat16,
    "tf32": torch.float32,
    "fp32": torch.float32,
    "fp64": torch.float64,
}


def stored(level: Level) -> torch.dtype:
    """Number format of the factors of a product at ``level``."""
    return _STORED[level]


class Spread(NamedTuple):
    """How large the parts of a score can be, for each of Q queries over all rows."""

    product: Tensor
    """(Q,) norm of the centred query times that of a centred row."""
    offset: float
    """Norm of the centre times that of a centred row."""
    size: Tensor
    """(Q,) square of the norms of query, row and centre added."""


def error(level: Level, dim: int, spread: Spread) -> Tensor:
    """Largest error (Q,) of a score.

    A sum of n products is off by n u / (1 - n u) times the norms of both factors at most, in
    whatever order it is added (N. Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    eq. 3.5). Besides, factors are rounded, and so are rows when they are scaled and centred.
    """
    unit = _SUM_ERROR[level]
    added = dim * unit / (1 - dim * unit) * (spread.product + spread.offset)
    levelled = _tie(spread) if level == "fp64" else 0.0
    return _FACTOR_ERROR[level] * spread.product + added + 8 * unit * spread.size + levelled


def _tie(spread: Spread) -> Tensor:
    """(Q,) by how much equal scores can differ in double precision, with room to spare.

    The products of equal rows differ in the last bits, by their place in the block.
    """
    return _TIE * spread.product + 64 * _SUM_ERROR["fp64"] * spread.size


@dataclass
class Kept:
    """The best rows so far of a block of queries."""

    scores: Tensor
    """(Q, m), the highest first; -inf where there is none yet."""
    indices: Tensor
    """(Q, m) int64."""

    @classmethod
    def none(cls, queries: int, rows: int, level: Level, device: str) -> Kept:
        """Room for ``rows`` of each query."""
        kind = torch.float64 if level == "fp64" else torch.float32
        scores = torch.full((queries, rows), -torch.inf, dtype=kind, device=device)
        return cls(scores, torch.full((queries, rows), -1, dtype=torch.int64, device=device))

    def merge(self, part: slice, scores: Tensor, start: int, *, ordered: bool) -> None:
        """Take in a block of scores (q, R) of the queries in ``part``; its first row is ``start``.

        Args:
            part: which queries.
            scores: overwritten.
            start: number of the first row.
            ordered: of equal scores keep those of the lowest numbers.
        """
        count = self.scores.shape[1]
        best = _first_best if ordered else _best
        values, columns = best(scores, min(count, scores.shape[1]))
        values = torch.cat([self.scores[part], values], dim=1)
        indices = torch.cat([self.indices[part], columns + start], dim=1)
        values, places = _first_best(values, count) if ordered else values.topk(count, dim=1)
        self.scores[part] = values
        self.indices[part] = indices.gather(1, places)


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest of each row: values and columns, the highest first.

    They lie in the ``count`` groups with the highest maxima, so most columns are read only once.
    """
    queries, width = scores.shape
    if width % _GROUP or width // _GROUP <= count:
        return scores.topk(count, dim=1)
    grouped = scores.view(queries, width // _GROUP, _GROUP)
    chosen = grouped.amax(dim=2).topk(count, dim=1, sorted=False).indices
    few = grouped.gather(1, chosen[:, :, None].expand(-1, -1, _GROUP))
    values, places = few.reshape(queries, count * _GROUP).topk(count, dim=1)
    columns = chosen.gather(1, places // _GROUP) * _GROUP + places % _GROUP
    return values, columns


def _first_best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `_best`, but of equal scores the lower column first. ``scores`` are overwritten."""
    values, columns = [], []
    for _ in range(count):
        value, column = scores.max(dim=1)  # documented: the first of equal ones
        values.append(value)
        columns.append(column)
        scores.scatter_(1, column[:, None], -torch.inf)
    return torch.stack(values, dim=1), torch.stack(columns, dim=1)


def level_out(scores: Tensor, spread: Spread) -> Tensor:
    """Scores (Q, W) in double precision with equal ones made equal; overwrites them."""
    steps = _tie(spread)[:, None].clamp_min(torch.finfo(torch.float64).tiny)
    return scores.div_(steps).round_().mul_(steps)


class Product:
    """Products of queries with rows; its memory serves one block after the other.

    Args:
        level: number format.
        device: where.
    """

    def __init__(self, level: Level, device: str) -> None:
        self._out = torch.empty(0, dtype=stored(level), device=device)
        self._scores = torch.empty(0, device=device)
        self._onednn = level == "fp32" and device == "cpu" and _has_onednn()

    def __call__(self, queries: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        """Scores (Q, W) of queries (Q, D) with rows (R, D), W >= R: -inf where no row is.

        Args:
            queries: as `stored`.
            rows: (W, D) likewise, as `padded` gives them.
            offsets: (R,) added to the scores of each row; double precision.
        """
        scores = self._product(queries, rows)
        scores[:, : len(offsets)] += offsets.to(scores.dtype)
        scores[:, len(offsets) :] = -torch.inf
        return scores

    def _product(self, queries: Tensor, rows: Tensor) -> Tensor:
        if self._onednn:  # a fifth faster than MKL on AMD processors
            found: Tensor = torch.ops.mkldnn._linear_pointwise(queries, rows, None, "none", [], "")
            return found
        self._out, scores = _view(self._out, len(queries), len(rows))
        torch.mm(queries, rows.T, out=scores)
        if scores.dtype != torch.bfloat16:
            return scores
        self._scores, wide = _view(self._scores, len(queries), len(rows))
        return wide.copy_(scores)


def _view(memory: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Memory of at least this size, and its beginning as (rows, columns)."""
    if memory.numel() < rows * columns:
        memory = memory.new_empty(rows * columns)
    return memory, memory[: rows * columns].view(rows, columns)


def _has_onednn() -> bool:
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def padded(rows: Tensor) -> Tensor:
    """Rows (R, D) and as many of zeros as make whole groups."""
    missing = -len(rows) % _GROUP
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def block_rows(memory: int, dim: int, queries: int, level: Level) -> int:
    """How many rows a block may have, for its rows and its scores to take ``memory`` bytes."""
    size = _STORED[level].itemsize
    scores = size + 4 if level == "bf16" else size
    return max(_GROUP, memory // (size * dim + scores * queries) // _GROUP * _GROUP)


@contextmanager
def matrix_precision(level: Level) -> Iterator[None]:
    """Let products on a GPU use TF32 only where asked, and never add in bf16."""
    cuda = torch.backends.cuda.matmul
    before = cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction
    cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction = level == "tf32", False
    try:
        yield
    finally:
        cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction = before
