"""Seeds and noise belong to tiles."""

from __future__ import annotations

import hashlib
import hmac

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.seeds import check_seeds, tile_noise, tile_seed

KEY = bytes(range(32))


def test_a_seed_is_the_documented_hmac():
    message = b'["pixcell-share tile seed, version 1","slide \xc3\xa9",1024,-3,2]'
    digest = hmac.new(KEY, message, hashlib.sha256).digest()
    assert tile_seed(KEY, "slide é", 1024, -3, 2) == int.from_bytes(digest[:8], "big") // 2


def test_a_seed_never_changes():
    assert tile_seed(KEY, "a", 0, 0, 0) == 6717418575229814375


@given(st.text(), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 99))
def test_seeds_are_63_bits_and_separate_tiles(slide, x, y, draw):
    seed = tile_seed(KEY, slide, x, y, draw)
    assert 0 <= seed < 2**63
    others = {
        tile_seed(KEY[::-1], slide, x, y, draw),
        tile_seed(KEY, slide + "1", x, y, draw),
        tile_seed(KEY, slide, x + 1, y, draw),
        tile_seed(KEY, slide, x, y + 1, draw),
        tile_seed(KEY, slide, x, y, draw + 1),
    }
    assert seed not in others
    assert len(others) == 5


def test_a_short_key_is_refused():
    with pytest.raises(SettingsError, match="16 bytes"):
        tile_seed(b"secret", "a", 0, 0, 0)


def test_noise_depends_on_nothing_but_the_seed():
    seeds = [5, 9, 2**62, 11]
    together = tile_noise(seeds, (16, 8, 8))
    assert together.dtype == torch.float32
    for index, seed in enumerate(seeds):
        assert torch.equal(together[index], tile_noise([seed], (16, 8, 8))[0])
    assert torch.equal(tile_noise(seeds[::-1], (16, 8, 8)), together.flip(0))


@pytest.mark.parametrize("bit", [0, 31, 32, 40, 62])
def test_every_bit_of_a_seed_counts(bit):
    assert not torch.equal(tile_noise([7], (64,)), tile_noise([7 ^ (1 << bit)], (64,)))


def test_noise_is_standard_normal_and_independent_between_neighbouring_seeds():
    noise = tile_noise(range(64), (16, 32, 32)).flatten(1).double()
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 1) < 0.005
    assert abs(noise.pow(4).mean() - 3) < 0.05
    correlation = torch.corrcoef(noise)
    assert (correlation - torch.eye(64, dtype=torch.float64)).abs().max() < 0.05


def test_noise_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    tile_noise([1, 2], (4,))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3], [1, -1], [1, 2**63]])
def test_seeds_that_do_not_fit_are_refused(seeds):
    with pytest.raises(SettingsError, match="seed"):
        check_seeds(seeds, 2)
