"""The order of training: complete, different every epoch, and a function of the position alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents import Address, LatentStore, ShuffledOrder, Source
from tests.training.latents_making import make_store


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("stores")
    first = LatentStore.open(make_store(folder / "a", train=23, shard_rows=4))
    second = LatentStore.open(make_store(folder / "b", train=9, shard_rows=2))
    return [Source(first), Source(second, repeat=3)]


def epoch(order: ShuffledOrder, number: int) -> list[Address]:
    count = len(order)
    return [order.locate(position) for position in range(number * count, (number + 1) * count)]


@pytest.mark.parametrize("buffer", [1, 6, 11, 1000])
def test_every_row_repeat_times_an_epoch(sources: list[Source], buffer: int) -> None:
    order = ShuffledOrder(sources, seed=1, buffer=buffer)
    assert len(order) == 23 + 3 * 9
    expected = Counter({Address(0, row): 1 for row in range(23)})
    expected.update({Address(1, row): 3 for row in range(9)})
    for number in (0, 1, 5):
        assert Counter(epoch(order, number)) == expected


def test_epochs_and_seeds_differ(sources: list[Source]) -> None:
    order = ShuffledOrder(sources, seed=1, buffer=8)
    assert epoch(order, 0) != epoch(order, 1)
    assert epoch(order, 0) != epoch(ShuffledOrder(sources, seed=2, buffer=8), 0)


@settings(max_examples=30)
@given(positions=st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_a_position_says_it_all(sources: list[Source], positions: list[int]) -> None:
    straight = ShuffledOrder(sources, seed=3, buffer=8)
    known = [straight.locate(position) for position in range(501)]
    jumping = ShuffledOrder(sources, seed=3, buffer=8)
    assert [jumping.locate(position) for position in positions] == [known[p] for p in positions]


def test_groups_of_shards_do_not_mix(sources: list[Source]) -> None:
    # One source without repeats: a shard is met once, within one group of 8 rows or more.
    order = ShuffledOrder(sources[:1], seed=4, buffer=8)
    for number in (0, 1):
        shards = [address.row // 4 for address in epoch(order, number)]
        at = 0
        while at < len(shards):
            size = next(
                size
                for size in range(8, len(shards) - at + 1)
                if set(shards[at : at + size]).isdisjoint(shards[at + size :])
            )
            assert len(set(shards[at : at + size])) <= 4, "more shards than the buffer needs"
            at += size


def test_rows_are_shuffled_within_a_group(sources: list[Source]) -> None:
    order = ShuffledOrder(sources[:1], seed=5, buffer=1000)
    rows = np.array([address.row for address in epoch(order, 0)])
    assert (np.diff(rows) == 1).mean() < 0.3


def test_holdout(sources: list[Source]) -> None:
    order = ShuffledOrder(sources, split="holdout", seed=1, buffer=4)
    assert len(order) == 3 + 3 * 3


def test_refusals(sources: list[Source], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="buffer"):
        ShuffledOrder(sources, seed=0, buffer=0)
    empty = LatentStore.open(make_store(tmp_path / "c", holdout=0))
    with pytest.raises(SettingsError, match="no holdout region"):
        ShuffledOrder([Source(empty)], split="holdout", seed=0, buffer=4)
    with pytest.raises(IndexError):
        ShuffledOrder(sources, seed=0, buffer=4).locate(-1)
