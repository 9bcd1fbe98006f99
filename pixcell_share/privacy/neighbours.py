"""Exact nearest neighbours by matrix products in blocks, on a CPU or a GPU.

Never more than one block of scores is in memory. A fast product screens: of all rows the best
``k`` and some more stay for each query. What decides is computed again, pair by pair, in double
precision, so a result depends neither on the size of a block nor on what else was asked for.

Whether the screen can have lost a neighbour is known from the largest error of its product
(`_screen.error`). Queries for which it can, since many rows are as near as one another, are
screened again in the next finer precision: bf16 or tf32, then fp32, then fp64. So ``precision``
changes how long a search takes, not what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixcell_share.privacy import _screen
from pixcell_share.privacy._rows import Ints, Metric, Rows, RowSource, Side, pair_distances
from pixcell_share.privacy._screen import Kept, Level

__all__ = ["Metric", "Neighbours", "Precision", "RowSource", "Rows", "nearest"]

Precision = Literal["fp32", "tf32", "bf16"]

BLOCK_BYTES = 1 << 28
_QUERIES = 1024
"""Queries in a block."""
_SAMPLED = 512
_MARGIN: dict[Level, int] = {"bf16": 24, "tf32": 16, "fp32": 8, "fp64": 8}
"""Rows that a screen keeps beyond k: with more, fewer queries are screened again."""
_LEVELS: dict[Precision, tuple[Level, ...]] = {
    "bf16": ("bf16", "fp32", "fp64"),
    "tf32": ("tf32", "fp32", "fp64"),
    "fp32": ("fp32", "fp64"),
}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest rows of each of Q queries, the nearest first."""

    indices: Ints
    """(Q, k) numbers of rows, the lower first of equally near ones; -1 where no more rows were
    allowed."""
    distances: NDArray[np.float32]
    """(Q, k): 1 - cosine, the Euclidean distance, or minus the product; inf where no row is."""


def nearest(
    queries: Rows,
    rows: Rows,
    k: int,
    *,
    metric: Metric = "cosine",
    exclude: Ints | None = None,
    query_groups: Ints | None = None,
    row_groups: Ints | None = None,
    device: str = "cpu",
    precision: Precision = "fp32",
    block_bytes: int = BLOCK_BYTES,
) -> Neighbours:
    """The k rows nearest to each query, exactly.

    Args:
        queries: (Q, D), an array, a memory map or a `RowSource`; any floating format.
        rows: (N, D) likewise.
        k: how many; N come back where there are fewer.
        metric: what near means. ``product``: the larger the inner product, the nearer.
        exclude: (Q,) one row per query that does not count, as the query itself; -1 for none.
        query_groups: (Q,) with ``row_groups``: rows of a query's own group do not count.
        row_groups: (N,).
        device: where the products are computed, as torch names it.
        precision: of the first screen: speed, not the result, depends on it.
        block_bytes: memory for a block of rows and its scores, beside the inputs and some 20 bytes
            per query and row kept.

    Returns:
        Indices and distances.

    Raises:
        ValueError: no rows, k below 1, other lengths of groups or widths than fit together, a
            number that is not finite, or for ``cosine`` a row of zeros.
    """
    forbidden = _Forbidden(exclude, query_groups, row_groups)
    forbidden.check(len(queries), len(rows))
    search = _Search(queries, rows, k, metric, forbidden, device, block_bytes)
    return search.run(_LEVELS[precision])


@dataclass(frozen=True, eq=False)
class _Forbidden:
    """Pairs that do not count."""

    exclude: Ints | None
    query_groups: Ints | None
    row_groups: Ints | None

    def check(self, queries: int, rows: int) -> None:
        if (self.query_groups is None) != (self.row_groups is None):
            raise ValueError("query_groups and row_groups go together")
        given = (self.exclude, queries), (self.query_groups, queries), (self.row_groups, rows)
        for entries, length in given:
            if entries is not None and len(entries) != length:
                raise ValueError(f"{len(entries)} entries for {length} rows")

    def strike(self, scores: Tensor, queries: Ints, start: int, stop: int) -> None:
        """Set the scores (q, R) of forbidden pairs of ``queries`` with the block's rows to -inf."""
        if self.exclude is not None:
            own = self.exclude[queries]
            struck = np.flatnonzero((own >= start) & (own < stop))
            scores[_tensor(struck, scores), _tensor(own[struck] - start, scores)] = -torch.inf
        if self.query_groups is not None and self.row_groups is not None:
            mine, theirs = self.query_groups[queries], self.row_groups[start:stop]
            shared = np.flatnonzero(np.isin(theirs, mine))
            same = _tensor(mine, scores)[:, None] == _tensor(theirs[shared], scores)
            line, column = same.nonzero(as_tuple=True)
            scores[line, _tensor(shared, scores)[column]] = -torch.inf


def _tensor(values: Ints, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)


class _Block(NamedTuple):
    """Consecutive rows as a product takes them."""

    start: int
    rows: Tensor
    """(W, D), centred, with zeros after the last."""
    offsets: Tensor
    """(R,)"""


class _Search:
    """One search: screens, and decisions for the queries whose screen has lost nothing."""

    def __init__(
        self,
        queries: Rows,
        rows: Rows,
        k: int,
        metric: Metric,
        forbidden: _Forbidden,
        device: str,
        block_bytes: int,
    ) -> None:
        if not len(rows) or k < 1:
            raise ValueError(f"{k} neighbours among {len(rows)} rows")
        self._queries, self._rows = Side(queries, metric), Side(rows, metric)
        if self._queries.dim != self._rows.dim:
            raise ValueError(f"queries of {self._queries.dim} numbers, rows of {self._rows.dim}")
        self._k, self._metric, self._forbidden = min(k, len(rows)), metric, forbidden
        self._device, self._bytes = device, block_bytes
        self._longest = 0.0  # norm of a centred row
        self._size = 0.0  # and of one that is not
        self._centre = self._middle()

    def run(self, levels: tuple[Level, ...]) -> Neighbours:
        """Screen, once more and finer where needed, and decide."""
        shape = len(self._queries), self._k
        found = Neighbours(np.full(shape, -1, np.int64), np.full(shape, np.inf, np.float32))
        undecided = np.arange(len(self._queries))
        for level in levels:
            if len(undecided):
                kept, within = self._screen(undecided, level)
                lost = within[:, -1] & (kept.shape[1] < len(self._rows)) & (level != "fp64")
                self._decide(undecided[~lost], kept[~lost], within[~lost], found)
                undecided = undecided[lost]
        return found

    def _middle(self) -> Tensor:
        """Mean (D,) of some rows. Where embeddings lie close together and far from zero, products
        of what is left without it are smaller, and so are their errors."""
        which = np.unique(np.linspace(0, len(self._rows) - 1, _SAMPLED).astype(np.int64))
        nowhere = torch.zeros(self._rows.dim, dtype=torch.float64, device=self._device)
        return self._rows.read(which, torch.float64, self._device, nowhere).rows.mean(dim=0)

    def _screen(self, chosen: Ints, level: Level) -> tuple[Ints, NDArray[np.bool_]]:
        """The rows (Q, m) with the highest scores, and which may be among the nearest k."""
        count = min(self._k + _MARGIN[level], len(self._rows))
        kept = Kept.none(len(chosen), count, level, self._device)
        errors = torch.empty(len(chosen), dtype=torch.float64, device=self._device)
        product = _screen.Product(level, self._device)
        with _screen.matrix_precision(level):
            for block in self._row_blocks(level):
                for first in range(0, len(chosen), _QUERIES):
                    part = slice(first, first + _QUERIES)
                    scores, errors[part] = self._score(chosen[part], block, level, product)
                    kept.merge(part, scores, block.start, ordered=level == "fp64")
        scores = kept.scores.double()
        within = scores >= scores[:, self._k - 1 : self._k] - 2 * errors[:, None]
        within &= scores > -torch.inf
        return kept.indices.cpu().numpy(), within.cpu().numpy()

    def _row_blocks(self, level: Level) -> Iterator[_Block]:
        kind = _screen.stored(level)
        step = _screen.block_rows(self._bytes, self._rows.dim, _QUERIES, level)
        for start in range(0, len(self._rows), step):
            which = np.arange(start, min(start + step, len(self._rows)))
            rows = self._rows.read(which, kind, self._device, self._centre)
            if level != "fp64":  # the last screen knows them: what it rounds to must not change
                self._longest = max(self._longest, float(rows.norms.max()))
                self._size = max(self._size, float(rows.sizes.max()))
            # With centre c, query c + q' and row c + r', up to what all rows share: their product
            # is q' r' + c r', and minus half their squared distance is q' r' - |r'|^2 / 2.
            offsets = -rows.norms.square() / 2 if self._metric == "euclidean" else rows.along
            yield _Block(start, _screen.padded(rows.rows), offsets)

    def _score(
        self, chosen: Ints, block: _Block, level: Level, product: _screen.Product
    ) -> tuple[Tensor, Tensor]:
        """Scores (q, R) of some queries with a block, and (q,) their largest errors."""
        kind = _screen.stored(level)
        queries = self._queries.read(chosen, kind, self._device, self._centre)
        scores = product(queries.rows, block.rows, block.offsets)
        self._forbidden.strike(scores, chosen, block.start, block.start + len(block.offsets))
        centre = float(self._centre.norm())
        spread = _screen.Spread(
            product=queries.norms * self._longest,
            offset=centre * self._longest,
            size=(queries.sizes + self._size + centre).square(),
        )
        if level == "fp64":
            scores = _screen.level_out(scores, spread)
        return scores, _screen.error(level, self._rows.dim, spread)

    def _decide(
        self, chosen: Ints, kept: Ints, within: NDArray[np.bool_], found: Neighbours
    ) -> None:
        """Order what the screen kept by exact distances, and keep k."""
        distances = np.full(kept.shape, np.inf)
        lines, columns = np.nonzero(within)
        pairs = chosen[lines], kept[lines, columns]
        distances[lines, columns] = pair_distances(self._queries, self._rows, pairs, self._metric)
        order = np.lexsort((kept, distances), axis=1)[:, : self._k]
        nearest_first = np.take_along_axis(distances, order, axis=1)
        indices = np.take_along_axis(kept, order, axis=1)
        found.distances[chosen] = nearest_first
        found.indices[chosen] = np.where(np.isfinite(nearest_first), indices, -1)
