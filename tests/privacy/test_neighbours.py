from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pixcell_share.privacy._store import RowStore
from pixcell_share.privacy.neighbours import nearest

METRICS = ("cosine", "euclidean", "product")
PRECISIONS = ("fp32", "tf32", "bf16")


def numbers(rows, dim, seed, kind=np.float32):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(kind)


def all_distances(queries, rows, metric):
    """(Q, N) in double precision, without any block."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(np.square(queries[:, None] - rows[None]).sum(axis=2))
    products = (queries[:, None] * rows[None]).sum(axis=2)
    if metric == "product":
        return -products
    lengths = np.square(queries).sum(axis=1)[:, None] * np.square(rows).sum(axis=1)
    return np.maximum(1 - products / np.sqrt(lengths), 0)


def brute_force(queries, rows, k, metric, allowed=None):
    distances = all_distances(queries, rows, metric)
    if allowed is not None:
        distances[~allowed] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(distances, order, axis=1)
    return np.where(np.isfinite(found), order, -1), found


def assert_same(found, indices, distances):
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_it_finds_what_brute_force_finds(metric, precision, kind):
    queries, rows = numbers(70, 48, 0, kind), numbers(900, 48, 1, kind)
    found = nearest(queries, rows, 5, metric=metric, precision=precision)
    assert_same(found, *brute_force(queries, rows, 5, metric))
    assert (found.indices.dtype, found.distances.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_it_agrees_with_scikit_learn(metric):
    neighbours = pytest.importorskip("sklearn.neighbors")
    queries, rows = numbers(200, 96, 0, np.float64), numbers(3000, 96, 1, np.float64)
    expected = neighbours.NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    distances, order = expected.fit(rows).kneighbors(queries)
    assert_same(nearest(queries, rows, 7, metric=metric), order, distances)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_close_clusters_far_from_zero_are_told_apart(metric, precision):
    """1 - cosine is 1e-9 or so: far below what a product in single precision resolves."""
    rng = np.random.default_rng(0)
    rows = (5 + 1e-4 * rng.normal(size=(700, 40))).astype(np.float64)
    queries = rows[::10] + 1e-5 * rng.normal(size=(70, 40))
    found = nearest(queries, rows, 3, metric=metric, precision=precision)
    np.testing.assert_array_equal(found.indices, brute_force(queries, rows, 3, metric)[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("block_bytes", [1, 1 << 20, 1 << 28])
def test_of_equal_rows_the_first_are_named(precision, block_bytes):
    rows = np.repeat(numbers(4, 33, 0), 250, axis=0)
    queries = np.repeat(numbers(1, 33, 0), 20, axis=0)
    found = nearest(queries, rows, 6, precision=precision, block_bytes=block_bytes)
    np.testing.assert_array_equal(found.indices, np.tile(np.arange(6), (20, 1)))
    assert found.distances.max() < 1e-7


@pytest.mark.parametrize("metric", METRICS)
def test_all_rows_identical(metric):
    rows = np.repeat(numbers(1, 65, 3), 1500, axis=0)
    found = nearest(rows[:40], rows, 3, metric=metric, exclude=np.arange(40))
    expected = [[i for i in range(4) if i != q][:3] for q in range(40)]
    np.testing.assert_array_equal(found.indices, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_result_depends_on_neither_blocks_nor_batches(metric, precision):
    rows = numbers(1300, 20, 0)
    rows[700:720] = rows[10]
    queries = np.concatenate([numbers(5, 20, 1), rows[10:11]])
    whole = nearest(queries, rows, 4, metric=metric, precision=precision)
    for bytes_ in (1, 1 << 19):
        parts = [
            nearest(query[None], rows, 4, metric=metric, precision=precision, block_bytes=bytes_)
            for query in queries
        ]
        np.testing.assert_array_equal([part.indices[0] for part in parts], whole.indices)
        np.testing.assert_array_equal([part.distances[0] for part in parts], whole.distances)


def test_more_queries_than_fit_a_block():
    queries, rows = numbers(2500, 8, 0), numbers(300, 8, 1)
    assert_same(nearest(queries, rows, 2), *brute_force(queries, rows, 2, "cosine"))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 90),
    dim=st.integers(1, 9),
    k=st.integers(1, 12),
    metric=st.sampled_from(METRICS),
    precision=st.sampled_from(PRECISIONS),
)
def test_groups_and_excluded_rows_do_not_count(seed, count, dim, k, metric, precision):
    """Small whole numbers: many rows are equally near, and their distances exact."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 4, (count, dim)).astype(np.float32)
    queries = rng.integers(1, 4, (7, dim)).astype(np.float32)
    exclude = rng.integers(-1, count, 7)
    mine, theirs = rng.integers(0, 3, 7), rng.integers(0, 4, count)
    found = nearest(
        queries,
        rows,
        k,
        metric=metric,
        precision=precision,
        exclude=exclude,
        query_groups=mine,
        row_groups=theirs,
        block_bytes=1,
    )
    allowed = (mine[:, None] != theirs) & (exclude[:, None] != np.arange(count))
    assert_same(found, *brute_force(queries, rows, k, metric, allowed))


def test_pairs_that_look_like_a_span_are_not_one():
    """Nearest rows 5, 9, 7 of three queries: first and last are as far apart as a span's."""
    rows = numbers(12, 6, 0)
    found = nearest(rows[[5, 9, 7]], rows, 1)
    np.testing.assert_array_equal(found.indices[:, 0], [5, 9, 7])
    assert found.distances.max() < 1e-7


def test_where_nothing_is_allowed_nothing_is_found():
    rows = numbers(20, 4, 0)
    groups = np.zeros(20, np.int64)
    found = nearest(rows, rows, 3, query_groups=groups, row_groups=groups)
    assert (found.indices == -1).all()
    assert np.isinf(found.distances).all()


def test_rows_may_be_a_store_or_a_memory_map(tmp_path):
    queries, rows = numbers(40, 24, 0), numbers(500, 24, 1, np.float16)
    expected = nearest(queries, rows, 3)
    store = RowStore(64)
    store.add(rows.astype(np.float32))
    np.save(tmp_path / "rows.npy", rows)
    for source in (store, np.load(tmp_path / "rows.npy", mmap_mode="r")):
        found = nearest(queries, source, 3)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)


def test_no_queries():
    found = nearest(np.empty((0, 5), np.float32), numbers(10, 5, 0), 3)
    assert found.indices.shape == found.distances.shape == (0, 3)


def test_fewer_rows_than_asked_for():
    assert nearest(numbers(2, 5, 0), numbers(3, 5, 1), 10).indices.shape == (2, 3)


class Largest(TorchDispatchMode):
    """Notes the largest result of any operation of torch, in bytes."""

    size = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory_follows_the_block(precision):
    """3,000 by 3,000: a full matrix of scores would take 36 MB."""
    rows = numbers(3000, 16, 0)
    with Largest() as largest:
        nearest(rows, rows, 1, precision=precision, block_bytes=1 << 20)
    assert 1 << 18 < largest.size <= 1 << 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("metric", METRICS)
def test_numbers_that_are_not_finite_are_refused(bad, metric):
    good, broken = numbers(4, 3, 0), numbers(4, 3, 0)
    broken[2, 1] = bad
    for queries, rows in ((good, broken), (broken, good)):
        with pytest.raises(ValueError, match="not finite"):
            nearest(queries, rows, 1, metric=metric)


def test_a_row_without_direction_has_no_cosine():
    rows = numbers(4, 3, 0)
    rows[1] = 0
    with pytest.raises(ValueError, match="zero"):
        nearest(rows, rows, 1)
    assert nearest(rows[1:2], rows, 1, metric="euclidean").indices.tolist() == [[1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "0 neighbours"),
        ({"rows": np.empty((0, 3), np.float32)}, "among 0 rows"),
        ({"rows": np.ones((2, 4), np.float32)}, "queries of 3 numbers, rows of 4"),
        ({"exclude": np.zeros(9, np.int64)}, "9 entries for 5"),
        ({"query_groups": np.zeros(5, np.int64)}, "go together"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, message):
    given_ = {"queries": numbers(5, 3, 0), "rows": numbers(6, 3, 1), "k": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        nearest(**given_)
