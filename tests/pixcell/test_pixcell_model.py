"""`PixCell.generate`: lazy, checked, and the same bytes for the same seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

import pixcell_share.pixcell as room
from pixcell_share.errors import PixcellError, SettingsError, WeightsMismatchError
from pixcell_share.pixcell import PixCell, SamplerSettings, tile_noise
from pixcell_share.pixcell.condition import check_embeddings


def embeddings(count: int, tokens: int = 1) -> np.ndarray:
    return np.random.default_rng(8).standard_normal((count, tokens, 24)).astype(np.float32)


def tiles(model: PixCell, count: int, **settings) -> np.ndarray:
    seeds = range(100, 100 + count)
    return np.stack(list(model.generate(embeddings(count), seeds, SamplerSettings(**settings))))


def test_exports():
    assert sorted(room.__all__) == [
        "DTYPES",
        "LatentCodec",
        "PixCell",
        "PixCellTransformer2DModel",
        "SamplerSettings",
        "tile_noise",
        "tile_seed",
        "to_pixels",
        "to_uint8",
    ]
    assert all(hasattr(room, name) for name in room.__all__)


def test_default_settings():
    assert SamplerSettings() == SamplerSettings(steps=20, guidance_scale=None, batch_size=None)


@torch.inference_mode()
def test_tiles_equal_a_plain_loop(make_pixcell):
    model = make_pixcell(guidance_scale=1.5)
    seeds, given = [4, 2**50, 6], torch.from_numpy(embeddings(3))
    scheduler = DPMSolverMultistepScheduler()
    scheduler.set_timesteps(20)
    latents = tile_noise(seeds, (16, 8, 8))
    for t in scheduler.timesteps:
        condition = model.transformer(latents, given, t.expand(3)).sample[:, :16]
        null = model.transformer(latents, model.transformer.null_embedding(3), t.expand(3))
        guided = null.sample[:, :16] + 1.5 * (condition - null.sample[:, :16])
        latents = scheduler.step(guided, t, latents).prev_sample
    pixels = model.codec.vae.decode(latents / 1.5305 + 0.0609).sample
    wanted = ((pixels.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    made = np.stack(list(model.generate(given.numpy(), seeds)))
    assert made.dtype == np.uint8
    assert made.shape == (3, 64, 64, 3)
    assert made.std() > 5  # random weights, yet a picture and not a constant
    assert np.abs(made - wanted).max() <= 0.5 + 1e-2


def test_the_same_call_gives_the_same_bytes(make_pixcell):
    model = make_pixcell()
    assert np.array_equal(tiles(model, 3), tiles(model, 3))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_the_batch_size_changes_at_most_one_grey_level(make_pixcell, batch_size):
    model = make_pixcell()
    usual = tiles(model, 5, batch_size=5).astype(int)
    assert np.abs(tiles(model, 5, batch_size=batch_size) - usual).max() <= 1


def test_the_order_of_the_tiles_changes_at_most_one_grey_level(make_pixcell):
    model, given, seeds = make_pixcell(), embeddings(4), [1, 2, 3, 4]
    straight = np.stack(list(model.generate(given, seeds))).astype(int)
    turned = np.stack(list(model.generate(given[::-1], seeds[::-1])))[::-1]
    assert np.abs(straight - turned).max() <= 1


def test_seed_and_embedding_both_change_the_tile(make_pixcell):
    model, given = make_pixcell(), embeddings(2)
    a, b = model.generate(given[[0, 0]], [1, 2])
    c = next(model.generate(given[[1]], [1]))
    assert np.abs(a.astype(int) - b).max() > 20
    assert np.abs(a.astype(int) - c).max() > 1


def test_batches_are_lazy_and_consecutive(make_pixcell):
    model = make_pixcell()
    sizes: list[int] = []
    model.codec.vae.decoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    made = model.generate(embeddings(5), range(5), SamplerSettings(steps=1, batch_size=2))
    assert isinstance(made, Iterator)
    assert sizes == []
    next(made)
    assert sizes == [2]
    next(made)
    assert sizes == [2]
    assert len(list(made)) == 3
    assert sizes == [2, 2, 1]


def test_a_run_inside_another_run_does_not_disturb_it(make_pixcell):
    """As two threads may interleave: the solver's state belongs to the batch."""
    model, settings = make_pixcell(), SamplerSettings(steps=4)
    given, seeds = embeddings(2), [1, 2]
    alone = list(model.generate(given, seeds, settings))
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            list(model.generate(given, [3, 4], SamplerSettings(steps=2)))

    model.transformer.pos_embed.register_forward_pre_hook(interrupt)
    assert np.array_equal(list(model.generate(given, seeds, settings)), alone)
    assert calls == 6


def test_global_state_stays_as_it_was(make_pixcell):
    before = torch.random.get_rng_state()
    made = make_pixcell().generate(embeddings(2), [1, 2], SamplerSettings(steps=1, batch_size=1))
    next(made)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    list(made)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_embeddings_give_no_tiles(make_pixcell):
    assert list(make_pixcell().generate(np.zeros((0, 1, 24), np.float32), [])) == []


def test_one_embedding_an_image_may_come_without_the_token_axis(make_pixcell):
    model, given = make_pixcell(), embeddings(2)
    flat = list(model.generate(given[:, 0].astype(np.float16), [1, 2]))
    whole = list(model.generate(given.astype(np.float16), [1, 2]))
    assert np.array_equal(flat, whole)


def test_a_grid_of_embeddings(make_pixcell):
    model = make_pixcell(caption_num_tokens=16)
    assert (model.tokens, model.embedding_dim, model.tile_px) == (16, 24, 64)
    made = list(model.generate(embeddings(2, 16), [1, 2]))
    assert len(made) == 2


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((2, 16, 24), 1), ((2, 1, 24), 16), ((2, 24), 16), ((2, 1, 23), 1), ((24,), 1)],
)
def test_embeddings_for_another_model_are_refused_at_once(make_pixcell, shape, tokens):
    model = make_pixcell(caption_num_tokens=tokens)
    with pytest.raises(WeightsMismatchError, match=f"made for {tokens} x 24 numbers an image"):
        model.generate(np.zeros(shape, np.float32), [1, 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_bad_embedding_is_named_at_once(make_pixcell, value):
    given = embeddings(5).astype(np.float64)
    given[3, 0, 7] = value
    with pytest.raises(SettingsError, match="embedding 3 "):
        make_pixcell().generate(given, range(5))


def test_a_bad_embedding_is_found_behind_the_first_block():
    given = np.zeros((9000, 1, 24), np.float32)
    given[8999] = np.nan
    with pytest.raises(SettingsError, match="embedding 8999 "):
        check_embeddings(given, 1, 24, 64)


def test_seeds_are_checked_at_once(make_pixcell):
    with pytest.raises(SettingsError, match="3 seeds for 2 embeddings"):
        make_pixcell().generate(embeddings(2), [1, 2, 3])


def test_numbers_out_of_range_never_become_a_tile(make_pixcell):
    model = make_pixcell()
    hot = embeddings(3)
    with torch.no_grad():
        model.transformer.proj_out.bias.fill_(torch.inf)
    made = model.generate(hot, [1, 2, 3], SamplerSettings(steps=1, batch_size=2))
    with pytest.raises(PixcellError, match="tile 0 came out as NaN") as caught:
        next(made)
    assert "--dtype" in caught.value.remedy


def test_a_full_gpu_says_what_to_do(make_pixcell):
    model = make_pixcell()

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.transformer.pos_embed.register_forward_pre_hook(fail)
    with pytest.raises(PixcellError, match="batch of 2 tiles") as caught:
        list(model.generate(embeddings(2), [1, 2]))
    assert "--batch-size" in caught.value.remedy


@pytest.mark.parametrize(("sample_size", "guidance"), [(32, 2.0), (64, 2.0), (128, 1.2)])
def test_the_papers_guidance_by_tile_size(make_pixcell, sample_size, guidance):
    model = make_pixcell(sample_size=sample_size)
    assert model.tile_px == sample_size * 8
    assert model.guidance_scale == guidance


def test_require_says_what_the_model_was_made_for(make_pixcell):
    model = make_pixcell()
    model.require(tile_px=64, embedding_dim=24)
    with pytest.raises(WeightsMismatchError, match=r"64 px tiles .* 24 channels, not 256 px"):
        model.require(tile_px=256, embedding_dim=24)
    with pytest.raises(WeightsMismatchError, match="and 1536"):
        model.require(tile_px=64, embedding_dim=1536)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_draws_the_same_tiles_as_the_cpu(make_pixcell):
    model = make_pixcell()
    on_cpu = tiles(model, 3).astype(int)
    model.transformer.cuda()
    model.codec.vae.cuda()
    assert np.abs(tiles(model, 3) - on_cpu).max() <= 1
