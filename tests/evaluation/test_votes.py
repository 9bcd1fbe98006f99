"""The fast ways to a vote against the plain one, and what makes a vote certain."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from pixcell_share.evaluation import KS
from pixcell_share.evaluation import votes as votes_module
from pixcell_share.evaluation.int8_screen import Int8Screen, has_int8_products
from pixcell_share.evaluation.settle import Ballot, Candidates
from pixcell_share.evaluation.votes import Voters, unit_rows

screened = pytest.mark.skipif(
    not has_int8_products(), reason="this processor has no 8-bit products (VNNI)"
)
TRAIN, QUERIES, DIM, CLASSES = 3000, 200, 48, 5


def tiles(seed: int, count: int, noise: float, spread: float = 0.5):
    """Kinds of tissue with a spectrum that falls, around a common mean."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    spectrum = np.arange(1, DIM + 1) ** -spread
    kinds = fixed.normal(size=(40, DIM)) * spectrum
    kind = rng.integers(0, 40, count)
    rows = kinds[kind] + noise * rng.normal(size=(count, DIM)) * spectrum + 1
    labels = np.where(rng.random(count) < 0.2, rng.integers(0, CLASSES, count), kind % CLASSES)
    return rows.astype(np.float32), labels


def outlying(rows: np.ndarray) -> np.ndarray:
    """Two components ten times as large as the others, as some transformers have them."""
    return rows * np.where(np.arange(DIM) < 2, 10, 1).astype(np.float32)


DATA = {
    "clear": lambda: (*tiles(0, TRAIN, 0.5), tiles(1, QUERIES, 0.5)[0]),
    "hard": lambda: (*tiles(0, TRAIN, 2.0), tiles(1, QUERIES, 2.0)[0]),
    "outlying components": lambda: (
        outlying(tiles(0, TRAIN, 1.0)[0]), tiles(0, TRAIN, 1.0)[1], outlying(tiles(1, QUERIES, 1.0)[0]),  # noqa: E501
    ),
    "copies under other labels": lambda: (
        np.concatenate([tiles(0, TRAIN, 1.0)[0]] * 2),
        np.concatenate([tiles(0, TRAIN, 1.0)[1], tiles(0, TRAIN, 1.0)[1][::-1]]),
        tiles(0, QUERIES, 1.0)[0],
    ),
    "training tiles as queries": lambda: (*tiles(0, TRAIN, 1.0), tiles(0, TRAIN, 1.0)[0][:QUERIES]),
}  # fmt: skip


def plain(
    rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, ks: tuple[int, ...]
) -> dict[int, list[int]]:
    """Thunder's protocol, written down."""
    similarities = np.dot(unit_rows(queries), unit_rows(rows).T)
    order = np.stack([line.argsort()[::-1] for line in similarities])
    return {k: [int(np.bincount(labels[line[:k]]).argmax()) for line in order] for k in ks}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tiles take the way of many."""
    monkeypatch.setattr("pixcell_share.evaluation.votes._SCREENED", 128)
    monkeypatch.setattr("pixcell_share.evaluation.int8_screen._BLOCK", 700)


@screened
@pytest.mark.parametrize("name", DATA)
def test_whole_numbers_change_no_vote(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels, queries = DATA[name]()
    ways = {"refined": 0, "sorted": 0}
    refined, nearest = Voters._refined, votes_module._nearest

    def counting(self, one, found, lines, doubtful):
        ways["refined"] += len(lines)
        return refined(self, one, found, lines, doubtful)

    def counting_nearest(similarities, ks):
        ways["sorted"] += len(similarities)
        return nearest(similarities, ks)

    monkeypatch.setattr(Voters, "_refined", counting)
    monkeypatch.setattr(votes_module, "_nearest", counting_nearest)
    found = Voters(rows, labels).votes(queries, KS)
    for k, expected in plain(rows, labels, queries, KS).items():
        assert found[k].tolist() == expected, k
    assert 0 < ways["refined"] <= QUERIES
    if name != "copies under other labels":  # all of them are ties
        assert ways["sorted"] < QUERIES / 4


@screened
@pytest.mark.parametrize("name", DATA)
def test_errors_stay_within_their_radius_and_nothing_is_missed(name: str) -> None:
    rows, _, queries = DATA[name]()
    keys, wanted = unit_rows(rows), unit_rows(queries)
    found = Int8Screen(keys).candidates(wanted, 20)
    assert found is not None
    exact = wanted.astype(np.float64) @ (keys - keys.mean(axis=0)).astype(np.float64).T
    lines = np.arange(len(wanted))[:, None]
    there = np.isfinite(found.similarities)
    apart = np.abs(found.similarities - exact[lines, found.keys])[there]
    allowed = np.broadcast_to(found.radius[:, None], there.shape)[there]
    assert (apart < allowed).all()
    assert (apart > allowed / 100).any()
    assert found.complete.mean() > 0.95
    best = np.argsort(-exact, axis=1)[:, :20]
    for line in np.flatnonzero(found.complete):
        nearest = exact[line, best[line]].round(6)
        mine = exact[line, found.keys[line][there[line]]].round(6)
        assert np.isin(nearest, mine).all()


@screened
def test_too_many_candidates_are_left_to_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixcell_share.evaluation.int8_screen._MOST", 20)
    rows, labels, queries = DATA["hard"]()
    keys, wanted = unit_rows(rows), unit_rows(queries)
    assert Int8Screen(keys).candidates(wanted, 50) is None
    found = Voters(rows, labels).votes(queries, (50,))
    assert found[50].tolist() == plain(rows, labels, queries, (50,))[50]


def test_a_processor_without_8_bit_products_gives_the_same(monkeypatch) -> None:
    rows, labels, queries = DATA["hard"]()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    found = Voters(rows, labels).votes(queries[:50], (10,))
    assert found[10].tolist() == plain(rows, labels, queries[:50], (10,))[10]


def worst_winners(classes, similarities, radius: float, k: int) -> set[int]:
    """Every class that can win: all choices of k tiles that errors of ``radius`` allow."""
    last = similarities[k - 1]
    sure = [i for i, value in enumerate(similarities) if value > last + 2 * radius]
    open_ = [i for i, value in enumerate(similarities) if abs(value - last) <= 2 * radius]
    return {
        int(np.bincount(classes[[*sure, *chosen]], minlength=3).argmax())
        for chosen in combinations(open_, k - len(sure))
    }


def test_certain_is_what_no_allowed_choice_changes() -> None:
    rng = np.random.default_rng(0)
    certain = 0
    for _ in range(300):
        classes = rng.integers(0, 3, 9)
        similarities = -np.sort(-rng.integers(0, 8, 9)).astype(np.float32)
        found = Candidates(
            np.arange(9)[None], similarities[None], np.array([0.6], np.float32), np.array([True])
        )
        for k in (1, 3, 5):
            winner, sure = Ballot(found, classes, 3).settle(k)
            possible = worst_winners(classes, similarities, 0.6, k)
            assert int(winner[0]) in possible
            assert not sure[0] or possible == {int(winner[0])}
            certain += int(sure[0])
    assert certain > 300
