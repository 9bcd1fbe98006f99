"""Large pictures: windows, averaging and blending against straightforward computations."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from pixcell_share.encoders import embed_grid
from pixcell_share.errors import PixcellError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCell, SamplerSettings, tile_noise
from pixcell_share.pixcell.blend import decode_windows
from pixcell_share.pixcell.large import (
    PUBLISHED,
    LargePicture,
    LargeSettings,
    denoise_windows,
)
from pixcell_share.pixcell.positions import patch_table, token_table
from pixcell_share.pixcell.sampler import denoise
from pixcell_share.pixcell.windows import Windows

FOUR = {"sample_size": 8, "caption_num_tokens": 4}
"""Windows of 8 latents or 64 px, over 2 x 2 tiles of 4 latents."""


@pytest.fixture
def model(make_pixcell: Callable[..., PixCell]) -> PixCell:
    return make_pixcell(guidance_scale=2.0, **FOUR)


def grid(rows: int, cols: int) -> np.ndarray:
    return np.random.default_rng(8).standard_normal((rows, cols, 24)).astype(np.float32)


def draw(model: PixCell, rows: int = 4, cols: int = 3, seed: int = 5, **settings) -> np.ndarray:
    chosen = LargeSettings(**{"steps": 3, **settings})
    return LargePicture(model, grid(rows, cols), seed, chosen).array()


def test_windows_cover_everything_and_end_at_the_edge():
    windows = Windows.over(20, 16, 8, 4)
    assert (windows.tops, windows.lefts) == ((0, 4, 8, 12), (0, 4, 8))
    assert (len(windows), windows.shape) == (12, (20, 16))
    assert list(windows)[:4] == [(0, 0), (0, 4), (0, 8), (4, 0)]
    assert Windows.over(22, 8, 8, 6).tops == (0, 6, 12, 14)
    # The published 4096 px: 49 windows at stride 64, 225 at 32, 16 at 128.
    assert [len(Windows.over(512, 512, 128, s)) for s in (64, 32, 128)] == [49, 169, 16]


def test_the_condition_of_a_window_is_its_block_of_tiles():
    """The published rule: 4 x 4 tiles from tile (top // 32, left // 32) of 16 x 16, row-major."""
    tiles = torch.arange(256.0).reshape(16, 16, 1)
    windows = Windows.over(512, 512, 128, 64)
    blocks = windows.blocks(tiles, 32)
    assert blocks.shape == (49, 16, 1)
    for (top, left), block in zip(windows, blocks, strict=True):
        wanted = [16 * (top // 32 + row) + left // 32 + col for row in range(4) for col in range(4)]
        assert block[:, 0].tolist() == wanted


def test_windows_between_tiles_are_refused(model):
    with pytest.raises(SettingsError, match="do not begin at tiles of 4") as caught:
        draw(model, stride=6)
    assert "multiple of 4" in caught.value.remedy


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_leaves_gaps_is_refused(model, stride):
    with pytest.raises(SettingsError, match="leaves gaps"):
        draw(model, stride=stride)


@torch.inference_mode()
def test_one_window_is_the_plain_sampler(model):
    windows = Windows.over(8, 8, 8, 4)
    noise, condition = tile_noise([3], (16, 8, 8)), torch.from_numpy(grid(2, 2)).reshape(1, 4, 24)
    options = {"steps": 5, "guidance_scale": 2.0}
    ours = denoise_windows(
        model.transformer, model.new_scheduler(), noise[0], condition, windows,
        batch_size=1, sigma=0.4, **options,
    )  # fmt: skip
    plain = denoise(model.transformer, model.new_scheduler(), noise, condition, **options)
    torch.testing.assert_close(ours, plain[0], rtol=1e-5, atol=1e-5)


def published_loop(model, noise, blocks, windows, w, stride_t=50):
    """The 4096 px loop as reference/pixcell.md section 5 tells it: x0 averaged, eps recomputed."""
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    x, side = noise.clone(), windows.side
    null = model.transformer.null_embedding(1)
    for t in range(1000, 0, -stride_t):
        now, before = alphas[t - 1], alphas[max(t - 1 - stride_t, 0)]
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for (i, j), block in zip(windows, blocks, strict=True):
            crop = x[None, :, i : i + side, j : j + side]
            time = torch.tensor([t - 1])
            c = model.transformer(crop, block[None], time).sample[0, :16]
            u = model.transformer(crop, null, time).sample[0, :16]
            eps = (w + 1) * c - w * u
            x0 = (crop[0] - (1 - now).sqrt() * eps) / now.sqrt()
            total[:, i : i + side, j : j + side] += x0
            count[:, i : i + side, j : j + side] += 1
        x0 = total / count
        eps = (x - now.sqrt() * x0) / (1 - now).sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x


@torch.inference_mode()
def test_the_published_settings_are_the_published_loop(model):
    """Mean predictions step as averaged clean latents do; its w is our guidance less one."""
    windows = Windows.over(16, 12, 8, 4)
    blocks = windows.blocks(torch.from_numpy(grid(4, 3)), 4)
    noise = tile_noise([3], (16, 16, 12))[0]
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False,
        set_alpha_to_one=False, timestep_spacing="trailing",
    )  # fmt: skip
    ours = denoise_windows(
        model.transformer, scheduler, noise, blocks, windows,
        steps=20, guidance_scale=3.0, batch_size=4, sigma=PUBLISHED.average_sigma,
    )  # fmt: skip
    theirs = published_loop(model, noise, blocks, windows, w=2)
    assert (theirs - noise).abs().max() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("sigma", [0.4, 0.8, math.inf])
def test_decoding_is_the_mean_weighted_by_a_gaussian(model, sigma):
    windows = Windows.over(20, 12, 8, 4)
    latents = tile_noise([2], (16, 20, 12))[0]
    total, weights = torch.zeros(3, 160, 96), torch.zeros(160, 96)
    places = torch.linspace(-1, 1, 64)
    distance = places[:, None] ** 2 + places**2
    kernel = torch.exp(-distance / sigma**2)
    for top, left in windows:
        crop = latents[None, :, top : top + 8, left : left + 8]
        y, x = slice(top * 8, top * 8 + 64), slice(left * 8, left * 8 + 64)
        total[:, y, x] += model.codec.decode(crop)[0] * kernel
        weights[y, x] += kernel
    strips = list(decode_windows(model.codec, latents, windows, batch_size=2, sigma=sigma))
    assert [strip.shape for strip in strips] == [(3, 32, 96)] * 3 + [(3, 64, 96)]
    torch.testing.assert_close(torch.cat(strips, 1), total / weights, rtol=0, atol=1e-4)


def test_a_picture(model):
    picture = LargePicture(model, grid(4, 3), 5, LargeSettings(steps=3))
    seen: list[int] = []
    array = picture.array(seen.append)
    assert array.shape == (*picture.size, 3) == (128, 96, 3)
    assert array.dtype == np.uint8
    assert array.std() > 5
    assert sum(seen) == picture.work == 3 * 2 * 4  # 3 x 2 windows; 3 steps and one decoding
    assert np.array_equal(array, draw(model))
    assert np.abs(array.astype(int) - draw(model, seed=6)).max() > 20


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_changes_at_most_one_grey_level(model, batch_size):
    usual = draw(model, batch_size=4).astype(int)
    assert np.abs(draw(model, batch_size=batch_size) - usual).max() <= 1


def test_nothing_is_computed_before_the_first_strip_and_rows_come_one_by_one(model):
    decoded: list[int] = []
    model.codec.vae.decoder.register_forward_pre_hook(lambda _, args: decoded.append(len(args[0])))
    strips = LargePicture(model, grid(6, 2), 1, LargeSettings(steps=1)).strips()
    assert decoded == []
    assert next(strips).shape == (32, 64, 3)
    assert sum(decoded) == 1  # one window a row
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert len(list(strips)) == 4
    assert sum(decoded) == 5


@torch.inference_mode()
def test_an_embedding_acts_where_its_tile_lies(model):
    """In one step it reaches just the windows that show its tile."""
    windows = Windows.over(24, 24, 8, 4)
    noise = tile_noise([3], (16, 24, 24))[0]

    def latents(tiles: np.ndarray) -> torch.Tensor:
        blocks = windows.blocks(torch.from_numpy(tiles), 4)
        return denoise_windows(
            model.transformer, model.new_scheduler(), noise, blocks, windows,
            steps=1, guidance_scale=2.0, batch_size=8, sigma=0.4,
        )  # fmt: skip

    changed = grid(6, 6)
    changed[1, 4] += 3
    moved = (latents(changed) - latents(grid(6, 6))).abs().amax(0) > 0
    rows, cols = moved.nonzero(as_tuple=True)
    # Tile (1, 4) is at latents (4..7, 16..19); windows of 8 at stride 4 around it.
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (0, 11, 12, 23)


def test_the_order_of_a_grid_is_row_by_row_from_the_encoder_to_the_positions(make_pixcell):
    """Tile k of `embed_grid` lies at row k // 4, and token k has the position of its centre."""
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    for k in range(16):
        row, col = divmod(k, 4)
        picture[0, 16 * row : 16 * row + 16, 16 * col : 16 * col + 16] = k
    encoder = SimpleNamespace(dim=1, embed=lambda x: x.mean((1, 2, 3))[:, None].astype(np.float32))
    assert embed_grid(encoder, picture)[0, :, 0].tolist() == list(range(16))
    # The patch in the middle of tile (row, col) of 64 x 64 patches, 16 to a tile.
    patches = patch_table(24, 64, 2.0)[0].reshape(64, 64, 24)
    middles = patches[8::16, 8::16].reshape(16, 24)
    torch.testing.assert_close(token_table(24, 16, 64, 2.0)[0], middles, rtol=0, atol=1e-5)
    model = make_pixcell(caption_num_tokens=16)
    tokens = np.random.default_rng(1).standard_normal((1, 16, 24)).astype(np.float32)
    turned = tokens.reshape(1, 4, 4, 24).swapaxes(1, 2).reshape(1, 16, 24)
    one, other = (
        next(model.generate(each, [1], SamplerSettings(steps=2))).astype(int)
        for each in (tokens, turned)
    )
    assert np.abs(one - other).max() > 0


def test_a_model_of_one_embedding_says_which_model_is_needed(make_pixcell):
    with pytest.raises(WeightsMismatchError, match="one embedding") as caught:
        LargePicture(make_pixcell(), grid(4, 4), 1)
    assert "PixCell-1024" in caught.value.remedy


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 23)])
def test_other_embeddings_are_refused(model, shape):
    with pytest.raises(WeightsMismatchError, match="rows x columns x 24"):
        LargePicture(model, np.zeros(shape, np.float32), 1)


def test_bad_values_and_sizes_are_refused(model):
    with pytest.raises(SettingsError, match="smaller than the 8 x 8"):
        LargePicture(model, grid(1, 4), 1)
    bad = grid(4, 4)
    bad[1, 1] = np.nan
    with pytest.raises(SettingsError, match="embedding 5 holds NaN"):
        LargePicture(model, bad, 1)
    with pytest.raises(SettingsError, match="seed 0 is -1"):
        LargePicture(model, grid(4, 4), -1)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch_size": 0}, {"guidance_scale": -1.0}, {"guidance_scale": math.nan},
     {"decode_sigma": 0.0}, {"average_sigma": math.nan}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        LargeSettings(**wrong)


def test_numbers_out_of_range_never_become_a_picture(model):
    with torch.no_grad():
        model.transformer.proj_out.bias.fill_(torch.inf)
    with pytest.raises(PixcellError, match="NaN") as caught:
        draw(model)
    assert "--dtype" in caught.value.remedy
