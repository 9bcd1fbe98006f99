"""The Fréchet distance against the formula itself, and how small samples bias it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from pixcell_share.errors import AuditError
from pixcell_share.evaluation import frechet_distance
from pixcell_share.nano.frechet import frechet_distance as by_eigenvalues


def sample(seed: int, count: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(dim, dim)) / np.sqrt(dim)
    return rng.normal(size=(count, dim)) @ mixing * rng.uniform(0.5, 1.5, dim) + rng.normal(
        size=dim
    )


def by_root(first: np.ndarray, second: np.ndarray, ridge: float = 0.0) -> float:
    gap = first.mean(0) - second.mean(0)
    one, two = (np.cov(each, rowvar=False) + ridge * np.eye(each.shape[1])
                for each in (first, second))  # fmt: skip
    root = linalg.sqrtm(one @ two).real
    return float(gap @ gap + np.trace(one + two - 2 * root))


@pytest.mark.parametrize(("first", "second"), [(500, 300), (40, 500), (41, 41)])
def test_it_is_the_formula(first: int, second: int) -> None:
    one, two = sample(1, first, 12), sample(2, second, 12)
    found = frechet_distance(one, two)
    assert found == pytest.approx(by_root(one, two), rel=1e-6)
    assert found == pytest.approx(by_eigenvalues(one, two), rel=1e-6)
    assert found == pytest.approx(frechet_distance(two, one), rel=1e-9)


@pytest.mark.parametrize("counts", [(10, 9), (10, 200), (31, 30)])
def test_fewer_tiles_than_dimensions(counts) -> None:
    """Singular covariances: the root of a product of symmetric roots is exact there too."""
    one, two = sample(1, counts[0], 30), sample(2, counts[1], 30)
    gap, covariances = one.mean(0) - two.mean(0), [np.cov(x, rowvar=False) for x in (one, two)]
    values, vectors = linalg.eigh(covariances[0])
    half = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    roots = np.sqrt(np.clip(linalg.eigvalsh(half @ covariances[1] @ half), 0, None)).sum()
    expected = gap @ gap + sum(np.trace(each) for each in covariances) - 2 * roots
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6)


def test_the_ridge_is_a_variance_in_every_direction() -> None:
    for counts in ((10, 9), (100, 80)):
        one, two = sample(1, counts[0], 20), sample(2, counts[1], 20)
        expected = by_root(one, two, ridge=0.3)
        assert frechet_distance(one, two, ridge=0.3) == pytest.approx(expected, rel=1e-6)


def test_known_distances() -> None:
    one = sample(1, 50, 6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one + 2.0) == pytest.approx(6 * 4.0)
    spread = np.trace(np.cov(one, rowvar=False))
    centred = one - one.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * spread)
    turn = linalg.qr(sample(3, 6, 6))[0]
    other = sample(2, 60, 6)
    assert frechet_distance(one @ turn, other @ turn) == pytest.approx(frechet_distance(one, other))


def test_small_samples_of_one_distribution_seem_apart() -> None:
    whole = np.random.default_rng(0).normal(size=(4000, 20))
    large = frechet_distance(whole[:2000], whole[2000:])
    small = frechet_distance(whole[:50], whole[50:100])
    assert small > 2 * 20 / 50  # what the means alone make of it
    assert small > 10 * large > 0


def test_large_samples_in_half_precision() -> None:
    one, two = sample(1, 300, 12), sample(2, 300, 12)
    rough = frechet_distance(one.astype(np.float16), two.astype(np.float16))
    assert rough == pytest.approx(frechet_distance(one, two), rel=0.01)


def test_what_has_no_covariance_is_refused() -> None:
    one = sample(1, 10, 4)
    with pytest.raises(AuditError, match="of 1 tiles"):
        frechet_distance(one[:1], one)
    with pytest.raises(AuditError):
        frechet_distance(one, np.full_like(one, np.nan))
