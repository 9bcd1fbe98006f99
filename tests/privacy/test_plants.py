from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixcell_share.privacy.plants import BLENDS, CROPS, PLANTS, blend, crop


def noise(seed, side=40):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", PLANTS)
def test_a_copy_has_the_form_of_its_tile_and_leaves_it_alone(kind):
    tile = noise(0)
    before = tile.copy()
    copy = PLANTS[kind](tile, np.random.default_rng(0))
    assert (copy.shape, copy.dtype) == (tile.shape, np.uint8)
    assert np.array_equal(tile, before)
    assert np.array_equal(copy, tile) == (kind == "exact")


@pytest.mark.parametrize("share", BLENDS.values())
def test_a_blend_is_the_weighted_mean(share):
    one, other = noise(0), noise(1)
    expected = share * one.astype(float) + (1 - share) * other
    assert np.abs(blend(one, other, share) - expected).max() <= 0.5


def test_a_blend_with_a_tile_of_another_size():
    one, other = noise(0, 40), np.full((64, 64, 3), 100, np.uint8)
    assert np.abs(blend(one, other, 0.5) - (one / 2 + 50)).max() <= 0.5


@pytest.mark.parametrize("share", CROPS.values())
def test_a_crop_is_an_enlarged_part(share):
    """A ramp from left to right: its slope in the crop is the share of that in the tile."""
    ramp = np.broadcast_to(np.linspace(0, 255, 200)[None, :, None], (200, 200, 3))
    tile = np.rint(ramp).astype(np.uint8)
    slope = np.polyfit(
        np.arange(20, 180), crop(tile, share, np.random.default_rng(2))[9, 20:180, 0], 1
    )
    assert slope[0] == pytest.approx(share * 255 / 199, rel=0.02)


def test_crops_come_from_all_over_the_tile():
    """Each tile's pixel tells its row and column: the corners of 200 crops reach both ends."""
    rows, columns = np.mgrid[0:100, 0:100].astype(np.uint8)
    tile = np.stack([rows, columns, rows], axis=2)
    rng = np.random.default_rng(0)
    corners = np.array([crop(tile, 0.75, rng)[0, 0, :2] for _ in range(200)])
    assert corners.min() <= 1
    assert corners.max() >= 24


def test_the_whole_tile_is_a_crop_of_it():
    tile = noise(0)
    whole = np.asarray(Image.fromarray(tile).resize((40, 40), Image.Resampling.BICUBIC))
    assert np.array_equal(crop(tile, 1.0, np.random.default_rng(0)), whole)
