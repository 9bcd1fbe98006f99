"""Options of the sampler: what they save, what they change, and how they are named."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from pixcell_share.errors import PixcellError, SettingsError
from pixcell_share.pixcell import SamplerSettings, guided
from pixcell_share.pixcell.batch_size import cpu_batch_size, fitting
from pixcell_share.pixcell.blocks import run_block
from pixcell_share.pixcell.compiled import CompiledBlock, compiled_block
from pixcell_share.pixcell.sampler import denoise, parse_interval


def draw(model, batch: int = 3, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    tokens = model.config.caption_num_tokens
    noise = torch.randn(batch, 16, 8, 8, generator=generator)
    embeddings = torch.randn(batch, tokens, 24, generator=generator)
    options = {"steps": 20, "guidance_scale": 2.0, **options}
    return denoise(model, DPMSolverMultistepScheduler(), noise, embeddings, **options)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of each block that was computed, in order."""
    sizes: list[int] = []

    def counting(tokens, weights, modulation, cross):
        result = run_block(tokens, weights, modulation, cross)
        sizes.append(len(result))
        return result

    monkeypatch.setattr(guided, "run_block", counting)
    return sizes


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().mean().sqrt() / other.std())


@pytest.mark.parametrize(("interval", "forwards"), [(2, 11), (3, 9)])
@pytest.mark.parametrize("tokens", [1, 16])
def test_a_block_cache_computes_fewer_blocks(
    make_transformer, computed, tokens, interval, forwards
):
    model = make_transformer(caption_num_tokens=tokens)
    exact = draw(model)
    computed.clear()
    cached = draw(model, block_cache=interval)
    assert len(computed) == forwards * model.config.num_layers
    assert 0 < distance(cached, exact) < 0.2


def test_a_block_cache_leaves_the_first_steps_as_they_are(make_transformer):
    model = make_transformer()
    assert torch.equal(draw(model, steps=3, block_cache=2), draw(model, steps=3))


def test_a_cached_tile_does_not_depend_on_the_tiles_beside_it(make_pixcell):
    model, settings = make_pixcell(), SamplerSettings(block_cache=2)
    given = np.random.default_rng(8).standard_normal((3, 1, 24)).astype(np.float32)
    together = np.stack(list(model.generate(given, [1, 2, 3], settings))).astype(int)
    alone = next(model.generate(given[1:2], [2], settings))
    assert np.abs(together[1] - alone).max() <= 1


def test_a_transformer_of_one_block_may_be_cached(make_transformer):
    model = make_transformer(num_layers=1)
    assert distance(draw(model, block_cache=2), draw(model)) < 0.2


def test_a_guidance_interval_halves_the_other_steps(make_transformer, computed):
    model = make_transformer()
    draw(model, guidance_interval=(100, 600))  # 599, 549, ..., 150, 100
    guided_steps = sum(size == 6 for size in computed) / model.config.num_layers
    assert guided_steps == 11
    assert sum(size == 3 for size in computed) / model.config.num_layers == 9


def test_a_guidance_interval_over_all_steps_changes_nothing(make_transformer):
    model = make_transformer()
    assert torch.equal(draw(model, guidance_interval=(0, 999)), draw(model))


def test_interval_and_cache_together(make_transformer):
    model = make_transformer()
    both = draw(model, guidance_interval=(100, 600), block_cache=2)
    assert 0 < distance(both, draw(model, guidance_interval=(100, 600))) < 0.2


@pytest.mark.parametrize("tokens", [1, 16])
def test_a_compiled_block_gives_the_same(make_transformer, monkeypatch, tokens):
    """Traced and lowered as always; only the last part, the C++ compiler, is left out."""
    block = CompiledBlock(partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(guided, "compiled_block", lambda: block)
    torch._dynamo.reset()
    model = make_transformer(caption_num_tokens=tokens)
    fast = draw(model, steps=3, compiled=True)
    assert block._compiled is not None
    assert not block._failed
    assert distance(fast, draw(model, steps=3)) < 1e-5


def test_all_blocks_and_steps_share_the_compiled_code(make_transformer, monkeypatch):
    counter = torch._dynamo.testing.CompileCounter()
    block = CompiledBlock(partial(torch.compile, backend=counter))
    monkeypatch.setattr(guided, "compiled_block", lambda: block)
    torch._dynamo.reset()
    draw(make_transformer(num_layers=4), steps=3, compiled=True)
    draw(make_transformer(num_layers=4), steps=3, compiled=True)
    assert counter.frame_count <= 2  # the first block, where the branches part, and the others


@pytest.mark.slow
def test_compiling_for_real(make_transformer):
    model = make_transformer()
    assert distance(draw(model, steps=2, compiled=True), draw(model, steps=2)) < 1e-5
    assert not compiled_block()._failed


def test_a_failing_compiler_is_only_slower(make_transformer, monkeypatch, caplog):
    def broken(*_: object, **__: object):
        raise RuntimeError("no C++ compiler\nsecond line")

    block = CompiledBlock(broken)
    monkeypatch.setattr(guided, "compiled_block", lambda: block)
    model = make_transformer()
    with caplog.at_level(logging.WARNING):
        made = draw(model, steps=2, compiled=True)
    assert torch.equal(made, draw(model, steps=2))
    (record,) = caplog.records
    assert "no C++ compiler" in record.message
    assert "second line" not in record.message


def test_a_full_gpu_is_not_taken_for_a_failing_compiler(make_transformer, monkeypatch):
    def full(*_: object, **__: object):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(guided, "compiled_block", lambda: CompiledBlock(full))
    with pytest.raises(torch.OutOfMemoryError):
        draw(make_transformer(), steps=1, compiled=True)


def test_only_whole_batches_are_compiled(make_pixcell, monkeypatch):
    sizes: list[int] = []

    def compiler(function, **_: object):
        def run(tokens, weights, modulation, cross):
            sizes.append(len(tokens))
            return function(tokens, weights, modulation, cross)

        return run

    monkeypatch.setattr(guided, "compiled_block", lambda: CompiledBlock(compiler))
    model, given = make_pixcell(), np.zeros((5, 1, 24), np.float32)
    list(model.generate(given, range(5), SamplerSettings(steps=1, batch_size=2, compile=True)))
    assert sizes == [2, 4, 2, 4]  # two layers of two batches; the fifth tile ran as it is


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "dpm-solver++"),
        ({"compile": True, "steps": 9}, "dpm-solver++"),
        ({"guidance_interval": (100, 912.5)}, "dpm-solver++, guided from 100 to 912.5"),
        (
            {"guidance_interval": (0.0, 900.0), "block_cache": 2},
            "dpm-solver++, guided from 0 to 900, block cache 2",
        ),
    ],
)
def test_the_name_tells_what_changes_the_result(options, name):
    assert SamplerSettings(**options).name == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_cache": 1},
        {"guidance_interval": (900.0, 100.0)},
        {"guidance_interval": (-1.0, 100.0)},
        {"guidance_interval": (0.0, 1000.0)},
        {"guidance_interval": (float("nan"), 100.0)},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SamplerSettings(**wrong)


def test_intervals_are_read():
    assert parse_interval("100-900") == (100.0, 900.0)
    for text in ("", "100", "1-2-3", "a-b"):
        with pytest.raises(SettingsError, match="guidance-interval"):
            parse_interval(text)


@pytest.mark.parametrize(("side", "size"), [(4, 16), (16, 16), (32, 4), (64, 1), (128, 1)])
def test_batches_on_a_cpu(make_pixcell, side, size):
    assert cpu_batch_size(side * side) == size
    if side == 4:
        assert make_pixcell().batch_size(SamplerSettings()) == 16
        assert make_pixcell().batch_size(SamplerSettings(batch_size=3)) == 3


def test_batches_on_a_gpu():
    gib = 2**30
    # 1 GiB for each tile and 2 GiB in any case, in 0.8 of 100 GiB
    assert fitting(100 * gib, 4 * gib, 6 * gib, limit=256) == 64
    assert fitting(100 * gib, 4 * gib, 6 * gib, limit=16) == 16
    assert fitting(4 * gib, 4 * gib, 6 * gib, limit=256) == 1
    assert fitting(100 * gib, 4 * gib, 4 * gib, limit=256) == 256
    with pytest.raises(PixcellError, match="not even one tile"):
        fitting(3 * gib, 4 * gib, 6 * gib, limit=256)
