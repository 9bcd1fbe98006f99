"""Masks, crops and the order of tiles: pure functions of seed and position."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from pixcell_share.errors import SettingsError
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.batches import CropMaker
from pixcell_share.ssl.crops import ColourSettings, CropSettings, crops_of, place
from pixcell_share.ssl.draws import Purpose, generator
from pixcell_share.ssl.masking import Masker, MaskSettings, block_mask
from pixcell_share.ssl.order import MixedOrder
from pixcell_share.ssl.sources import open_source
from tests.ssl.conftest import MakeSettings, drawn_tiles, source

PLAIN = ColourSettings(jitter=0, grey=0, blur=(0, 0, 0), solarize=0)


def rng(number: int = 0) -> np.random.Generator:
    return generator(3, number, Purpose.CROPS)


def test_half_of_a_steps_crops_are_masked_and_their_ratios_are_spread() -> None:
    masker = Masker(16, 8, MaskSettings(), seed=5)
    for step in range(3):
        masks = np.concatenate([masker.masks(step * 8 + index) for index in range(8)])
        shares = sorted(masks.mean(1).tolist())
        assert shares[:8] == [0] * 8
        # One in each eighth of 0.1 to 0.5; blocks may fall a little short of it.
        for number, share in enumerate(shares[8:]):
            assert 0.1 + number * 0.05 - 0.08 < share <= 0.1 + (number + 1) * 0.05


def test_masks_depend_on_seed_and_position_alone() -> None:
    def masks(seed: int, positions: list[int]) -> list[bytes]:
        masker = Masker(8, 4, MaskSettings(), seed)
        return [masker.masks(position).tobytes() for position in positions]

    forward, backward = masks(0, [0, 1, 6, 7]), masks(0, [7, 6, 1, 0])
    assert forward == backward[::-1]
    assert forward != masks(1, [0, 1, 6, 7])


def test_a_block_mask_never_covers_more_than_asked() -> None:
    for number in range(200):
        patches = number % 33
        assert block_mask(8, patches, rng(number)).sum() <= patches


def test_places_are_those_of_random_resized_crop() -> None:
    areas, aspects = [], []
    for number in range(500):
        left, top, width, height = place(200, 120, (0.3, 1.0), rng(number))
        assert 0 <= left <= 200 - width and 0 <= top <= 120 - height
        areas.append(width * height / (200 * 120))
        aspects.append(width / height)
    assert min(areas) > 0.28 and max(areas) <= 1 and 0.4 < np.mean(areas) < 0.7
    assert min(aspects) > 0.73 and max(aspects) < 1.36
    assert place(400, 10, (0.9, 1.0), rng()) == (193, 0, 13, 10)  # a long strip: its middle


def test_a_crop_without_colours_is_torchvisions() -> None:
    tile = drawn_tiles(1, side=90)[0][0]
    settings = CropSettings(global_px=32, local_px=16, locals=1, colour=PLAIN)
    big, _ = crops_of(tile, settings, rng())
    draw = rng()
    left, top, width, height = place(90, 90, settings.global_scale, draw)
    wanted = TF.resized_crop(
        Image.fromarray(tile), top, left, height, width, [32, 32], TF.InterpolationMode.BICUBIC
    )
    either = [np.asarray(wanted), np.asarray(wanted)[:, ::-1]]
    assert any(np.array_equal(big[0].transpose(1, 2, 0), each) for each in either)


def test_crops_have_their_shapes_and_repeat() -> None:
    tile = drawn_tiles(1, side=80)[0][0]
    settings = CropSettings(global_px=32, local_px=16, locals=3)
    first, second = crops_of(tile, settings, rng()), crops_of(tile, settings, rng())
    assert first[0].shape == (2, 3, 32, 32) and first[1].shape == (3, 3, 16, 16)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], crops_of(tile, settings, rng(1))[0])
    assert crops_of(tile, replace(settings, locals=0), rng())[1].shape == (0, 3, 16, 16)


@pytest.mark.parametrize(("turn", "kinds"), [(True, 8), (False, 2)])
def test_turns_are_all_symmetries_or_flips(turn: bool, kinds: int) -> None:
    tile = np.zeros((32, 32, 3), np.uint8)
    tile[:4, :8] = 255  # no symmetry of its own
    settings = CropSettings(global_px=32, global_scale=(1, 1), locals=0, turn=turn, colour=PLAIN)
    assert place(32, 32, (1, 1), rng()) == (0, 0, 32, 32)  # always the whole tile
    seen = {crops_of(tile, settings, rng(number))[0][0].tobytes() for number in range(200)}
    assert len(seen) == kinds


def test_concatenated_sources_give_each_tile_once_an_epoch() -> None:
    sizes = [3000, 1096, 4096]
    order = MixedOrder(sizes, [None] * 3, seed=1)
    seen = Counter(order.locate(position) for position in range(sum(sizes)))
    assert len(seen) == sum(sizes) and set(seen.values()) == {1}
    again = MixedOrder(sizes, [None] * 3, seed=1)
    assert [again.locate(p) for p in (8000, 5, 20_000)] == [
        order.locate(p) for p in (8000, 5, 20_000)
    ]
    other = MixedOrder(sizes, [None] * 3, seed=2)
    assert [other.locate(p) for p in range(20)] != [order.locate(p) for p in range(20)]


def test_shares_hold_in_every_block_and_epochs_are_whole() -> None:
    order = MixedOrder([7, 1000], [0.25, 0.75], seed=0)
    found = [order.locate(position) for position in range(8192)]
    for block in (found[:4096], found[4096:]):
        assert sum(address.source == 0 for address in block) == 1024
    rows = Counter(address.row for address in found if address.source == 0)
    assert max(rows.values()) - min(rows.values()) <= 1 and len(rows) == 7


@pytest.mark.parametrize("shares", [[1.0, None], [1.0, 0.0], [1.0, -1.0], [1.0, 1e-9]])
def test_shares_that_cannot_be_kept_are_refused(shares: list[float | None]) -> None:
    with pytest.raises(SettingsError):
        MixedOrder([5, 5], shares, seed=0)


def test_a_batch_is_the_same_in_parts_and_with_other_threads(
    shards: Path, settings: MakeSettings
) -> None:
    tiles = [open_source(source(shards))]
    shape = architecture("tiny")
    one = CropMaker(settings(workers=1), shape, tiles)
    many = CropMaker(settings(workers=3), shape, tiles)
    whole = one.make(np.arange(8))
    parts = [many.make(np.arange(4, 8)), many.make(np.arange(4))][::-1]
    assert torch.equal(whole.globals, torch.cat([part.globals for part in parts], dim=1))
    assert torch.equal(whole.locals, torch.cat([part.locals for part in parts], dim=1))
    masks = [part.masks.view(2, 4, -1) for part in parts]
    assert torch.equal(whole.masks.view(2, 8, -1), torch.cat(masks, dim=1))
    assert whole.global_kept is not None and whole.global_kept.shape == (4, 2, int(16 * 0.7))
    for maker in (one, many):
        maker.close()
