"""From positions to batches: the same data for any number of ranks, and bad rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import BatchMaker, SampleSettings, micro_batches, turn_square
from pixcell_share.training.division import divide
from pixcell_share.training.latents import LatentStore, ShuffledOrder, Source
from tests.training.conftest import make_store


def make_maker(*stores: Path, stage: int = 256, **drawn: object) -> BatchMaker:
    sources = [Source(LatentStore.open(folder)) for folder in stores]
    order = ShuffledOrder(sources, seed=3, buffer=6)
    settings = SampleSettings(**{"stage": stage, "global_batch": 12, "seed": 3, **drawn})
    return BatchMaker(order, sources, settings, pytest.fail)


def positions(first: int, count: int) -> NDArray[np.int64]:
    return np.arange(first, first + count, dtype=np.int64)


def joined(batches: list[Batch]) -> dict[str, torch.Tensor]:
    """All samples, in the order of their positions."""
    names = vars(batches[0])
    whole = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in names}
    order = whole["positions"].argsort()
    return {name: value[order] for name, value in whole.items()}


@pytest.mark.parametrize(("world", "micro"), [(1, 12), (1, 3), (2, 3), (3, 2), (6, 1)])
def test_ranks_and_micro_batches_change_no_sample(store: Path, world: int, micro: int) -> None:
    drawn = {"turn": True, "spread_timesteps": True, "condition_noise": 0.1}
    expected = joined([make_maker(store, **drawn).make(positions(12, 12))])
    division = divide(12, world, micro, exact=True)
    parts = [
        batch
        for rank in range(world)
        for batch in micro_batches(
            make_maker(store, **drawn), division, rank, range(1, 2), pin=False
        )
    ]
    assert len(parts) == 12 // micro
    found = joined(parts)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_batches_hold_the_scaled_crops_of_the_store(store: Path) -> None:
    """Found again in the store by search: a crop on the grid of tiles, and its own embedding."""
    batch = make_maker(store).make(positions(0, 12))
    rows = LatentStore.open(store).read("train", np.arange(12))
    # As make_store says: scale 0.9, shift 0.05.
    raw = ((batch.latents.double() / 0.9) + 0.05).numpy()
    seen = set()
    for crop, condition in zip(raw, batch.condition.numpy(), strict=True):
        found = [
            (row, down, right)
            for row in range(12)
            for down in range(2)
            for right in range(2)
            if np.allclose(
                crop,
                rows.latents[row, :, 32 * down : 32 * down + 32, 32 * right : 32 * right + 32],
                atol=1e-5,
            )
        ]
        ((row, down, right),) = found
        expected = rows.embeddings[row, 2 * down + right].astype(np.float32)
        np.testing.assert_array_equal(condition[0], expected)
        seen.add((row, down, right))
    assert {row for row, _, _ in seen} == set(range(12))  # an epoch has every region once


@pytest.mark.parametrize(("stage", "places"), [(256, 16), (512, 9), (1024, 1)])
def test_crops_lie_on_the_grid_of_tiles(tmp_path: Path, stage: int, places: int) -> None:
    store = make_store(tmp_path / "large", region_px=1024, train=2, holdout=0)
    batch = make_maker(store, stage=stage).make(positions(0, 150))
    side, tokens = stage // 8, (stage // 256) ** 2
    assert batch.latents.shape == (150, 16, side, side)
    assert batch.condition.shape == (150, tokens, 24)
    # Each region has so many different crops, each with the first embedding of its place.
    assert len(torch.unique(batch.latents[:, 0, 0, 0])) == 2 * places
    assert len(torch.unique(batch.condition[:, 0, 0])) == 2 * places


def test_turns_move_latents_and_embeddings_together(tmp_path: Path) -> None:
    store = make_store(tmp_path / "one", train=1, holdout=0)
    plain = make_maker(store, stage=512).make(positions(0, 1))
    turned = make_maker(store, stage=512, turn=True).make(positions(0, 64))
    grid = plain.condition[0].reshape(2, 2, -1).numpy()
    codes = set()
    for latents, condition in zip(turned.latents, turned.condition, strict=True):
        (code,) = [
            code
            for code in range(8)
            if np.array_equal(turn_square(plain.latents[0].numpy(), code, axes=(1, 2)), latents)
        ]
        expected = turn_square(grid, code, axes=(0, 1)).reshape(4, -1)
        np.testing.assert_array_equal(condition.numpy(), expected)
        codes.add(code)
    assert codes == set(range(8))


def test_the_eight_symmetries_differ_and_keep_the_square() -> None:
    square = np.arange(9.0).reshape(3, 3)
    turned = [turn_square(square, code, axes=(0, 1)) for code in range(8)]
    assert len({each.tobytes() for each in turned}) == 8
    np.testing.assert_array_equal(turned[1], np.rot90(square))
    np.testing.assert_array_equal(turned[4], square[:, ::-1])


def test_draws_have_the_distributions_asked_for(store: Path) -> None:
    batch = make_maker(store, condition_dropout=0.25).make(positions(0, 600))
    assert batch.dropped.double().mean() == pytest.approx(0.25, abs=0.06)
    times = batch.timesteps.double()
    assert times.min() >= 0 and times.max() <= 999
    assert times.mean() == pytest.approx(499.5, abs=40)
    assert batch.noise.mean() == pytest.approx(0, abs=1e-3)
    assert batch.noise.std() == pytest.approx(1, abs=1e-3)
    # No two samples share their noise.
    assert len(torch.unique(batch.noise[:, 0, 0, 0])) == 600


def test_spread_time_steps_fill_every_part_once(store: Path) -> None:
    batch = make_maker(store, global_batch=20, spread_timesteps=True).make(positions(40, 20))
    assert sorted((batch.timesteps // 50).tolist()) == list(range(20))


def test_condition_noise_changes_the_conditions_alone(store: Path) -> None:
    plain = make_maker(store).make(positions(0, 8))
    noisy = make_maker(store, condition_noise=0.5).make(positions(0, 8))
    assert (noisy.condition - plain.condition).std() == pytest.approx(0.5, rel=0.2)
    for name in ("latents", "noise", "timesteps", "dropped"):
        assert torch.equal(getattr(plain, name), getattr(noisy, name))


def test_another_seed_draws_anew(store: Path) -> None:
    one, other = make_maker(store), make_maker(store, seed=4)
    first, second = one.make(positions(0, 4)), other.make(positions(0, 4))
    assert not torch.equal(first.noise, second.noise)
    assert torch.equal(first.noise, one.make(positions(0, 4)).noise)


def test_bad_rows_are_refused_by_name_or_left_out(tmp_path: Path) -> None:
    bad = make_store(tmp_path / "bad", train=6, holdout=0, shard_rows=4, bad_row=5, region_px=256)
    with pytest.raises(DataError, match=r"bad, shard train-00001, row 1 holds NaN .*slide-2"):
        make_maker(bad).make(positions(0, 6))

    said: list[str] = []
    maker = make_maker(bad, skip_bad=True)
    maker._say = said.append
    batch = maker.make(positions(0, 12))
    assert (batch.weights == 0).sum() == 2
    assert torch.isfinite(batch.latents).all()
    assert len(said) == 1 and "shard train-00001, row 1" in said[0]


def test_several_stores_of_one_vae_and_encoder(store: Path, tmp_path: Path) -> None:
    """Regions of several sizes go together, as long as the stage fits into the smallest."""
    second = make_store(tmp_path / "second", seed=1, region_px=256)
    batch = make_maker(store, second).make(positions(0, 24))
    assert len(torch.unique(batch.latents[:, 0, 0, 0])) == 24
    with pytest.raises(SettingsError, match="stage 512 needs regions of 512 px"):
        make_maker(store, second, stage=512)
    path = second / "store.json"
    path.write_text(path.read_text().replace('"scaling_factor": 0.9', '"scaling_factor": 0.8'))
    with pytest.raises(SettingsError, match=r"differ in scaling_factor: 0\.9 and 0\.8"):
        make_maker(store, second)


def test_describe_names_the_slide_of_a_position(store: Path) -> None:
    about = make_maker(store).describe(7)
    assert about["position"] == "7" and about["store"] == str(store)
    assert about["shard"].startswith("train-") and about["slide"].startswith("slide-")


@pytest.mark.parametrize(
    ("batch", "world", "micro", "advice"),
    [
        (10, 4, 1, "--global-batch 8 or 12"),
        (3, 4, 1, "--global-batch 4,"),
        (24, 2, 5, "--micro-batch 4 or 6"),
        (8, 2, 16, "--micro-batch 4$"),
    ],
)
def test_what_does_not_divide_suggests_numbers(
    batch: int, world: int, micro: int, advice: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        divide(batch, world, micro, exact=True)
    assert advice.rstrip("$") in caught.value.remedy


def test_a_presets_micro_batch_is_only_a_limit() -> None:
    assert divide(24, 2, 5, exact=False).micro_batch == 4
    assert divide(8, 2, 128, exact=False).accumulation == 1
