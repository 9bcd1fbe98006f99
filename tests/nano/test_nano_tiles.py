"""The split and the sampler: nothing held out is ever trained on."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.errors import SettingsError
from pixcell_share.nano.batches import (
    MixSettings,
    TileSampler,
    to_images,
    to_tensor,
    turn,
    turn_each,
)
from pixcell_share.nano.evaluate import spread
from pixcell_share.nano.tiles import SplitSettings, TileSet, prepare


@pytest.fixture(scope="module")
def tiles(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TileSet:
    return prepare(small_data, tmp_path_factory.mktemp("cache"), SplitSettings())


def test_no_group_is_on_both_sides(tiles: TileSet) -> None:
    train, held = set(tiles.groups[tiles.train]), set(tiles.groups[tiles.held])
    assert train and held
    assert not train & held
    assert len(tiles.train) + len(tiles.held) == len(tiles.lung)


def test_real_split_holds_out_a_tenth_of_the_groups(shared_data: Path) -> None:
    with (shared_data / "lung_tiles" / "manifest.csv").open(newline="") as stream:
        groups = {row["near_duplicate_group"] for row in csv.DictReader(stream)}
    held = sum(SplitSettings().held_out(group) for group in groups)
    expected, deviation = len(groups) * 0.1, math.sqrt(len(groups) * 0.1 * 0.9)
    assert abs(held - expected) < 3 * deviation


def _is_green(image: np.ndarray) -> bool:
    return bool((image[..., 1] > 200).all() and (image[..., 0] < 50).all())


def test_training_batches_hold_no_held_out_pixel(tiles: TileSet) -> None:
    rng = np.random.default_rng(1)
    batch = TileSampler(tiles, MixSettings(breast=0.5)).draw(200, rng, crop_px=64)
    assert not any(_is_green(image) for image in batch)
    held = TileSampler(tiles, MixSettings(breast=0.5), held=True).draw(50, rng, crop_px=64)
    assert all(_is_green(image) for image in held)


def test_prepare_reads_once(tiles: TileSet, small_data: Path, tmp_path: Path) -> None:
    prepare(small_data, tmp_path, SplitSettings())
    before = (tmp_path / "lung.npy").stat().st_mtime_ns
    again = prepare(small_data, tmp_path, SplitSettings())
    assert (tmp_path / "lung.npy").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.lung, tiles.lung)


def test_missing_data_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        prepare(tmp_path, tmp_path / "cache", SplitSettings())
    assert "--data" in caught.value.remedy


def test_spread_takes_turns_between_groups(tiles: TileSet) -> None:
    groups = len(set(tiles.groups[tiles.train]))
    chosen = spread(tiles, tiles.train, groups)
    assert len(set(tiles.groups[chosen])) == groups
    assert len(spread(tiles, tiles.train, 10**6)) == len(tiles.train)


def test_the_eight_turns_differ_and_keep_the_pixels() -> None:
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    turned = {turn(image, code).tobytes() for code in range(8)}
    assert len(turned) == 8
    assert all(sorted(turn(image, code).ravel()) == sorted(image.ravel()) for code in range(8))


def test_rows_turn_each_by_their_own_code() -> None:
    batch = torch.arange(8 * 3 * 4 * 4.0).view(8, 3, 4, 4)
    codes = np.array([3, 0, 7, 7, 1, 5, 2, 4])
    turned = turn_each(batch, codes)
    for row, code in enumerate(codes):
        pixels = batch[row].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(turned[row].permute(1, 2, 0).numpy(), turn(pixels, int(code)))


def test_pixels_survive_the_way_to_tensors_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(to_images(to_tensor(levels)), levels)
