"""Which rows can be among the nearest: products of blocks, and the best few of each block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Level = Literal["bf16", "tf32", "fp32", "fp64"]

_GROUP = 64
"""Columns of a block of scores that are first reduced to their highest."""
_TIE_DECIMALS = 9
"""In double precision scores that agree this far count as equal: the products of equal rows can
differ in the last bits, by their place in the block."""
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


def error(level: Level, dim: int) -> float:
    """Largest error of a product of ``dim`` terms, as a share of the product of both norms.

    N. Higham, Accuracy and Stability of Numerical Algorithms (2002), eq. 3.5: n u / (1 - n u), in
    whatever order the terms are added. Eight more terms stand for scaling the factors before and
    for the norms' part after.
    """
    added = (dim + 8) * _SUM_ERROR[level]
    rounded = 10.0**-_TIE_DECIMALS if level == "fp64" else 0.0
    return _FACTOR_ERROR[level] + added / (1 - added) + rounded


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


def level_out(scores: Tensor, units: Tensor) -> Tensor:
    """Double-precision scores (Q, R) with equal ones made equal; ``units`` (Q, 1) bound them."""
    steps = (units * 10.0**-_TIE_DECIMALS).clamp_min(torch.finfo(torch.float64).tiny)
    return (scores / steps).round_().mul_(steps)


def product(queries: Tensor, rows: Tensor) -> Tensor:
    """Scores (Q, R) of queries (Q, D) with rows (R, D), padded with -inf to whole groups."""
    width = -(-len(rows) // _GROUP) * _GROUP
    scores = torch.empty(len(queries), width, dtype=queries.dtype, device=queries.device)
    torch.mm(queries, rows.T, out=scores[:, : len(rows)])
    scores[:, len(rows) :] = -torch.inf
    return scores.float() if scores.dtype == torch.bfloat16 else scores


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
