"""Noise, denoising and decoding side by side: the same tiles, and threads that end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pixcell_share.errors import PixcellError
from pixcell_share.pixcell import PixCell, SamplerSettings
from pixcell_share.pixcell.drawing import Batch

SETTINGS = SamplerSettings(steps=2, batch_size=2)


def batches(model: PixCell, count: int = 4) -> Iterator[Batch]:
    rng = np.random.default_rng(8)
    for number in range(count):
        given = rng.standard_normal((2, 1, 24)).astype(np.float32)
        yield model.batch(given, [10 * number, 10 * number + 1])


def test_the_same_bytes(make_pixcell):
    model = make_pixcell()
    turns = list(model.draw(batches(model), SETTINGS, overlap=False))
    together = list(model.draw(batches(model), SETTINGS, overlap=True))
    assert len(together) == 4
    assert together[0].shape == (2, 64, 64, 3)
    assert np.array_equal(turns, together)


def test_nothing_runs_before_the_first_tile_is_asked_for(make_pixcell):
    model = make_pixcell()
    before, asked = threading.active_count(), []

    def given() -> Iterator[Batch]:
        asked.append(True)
        yield from batches(model)

    made = model.draw(given(), SETTINGS, overlap=True)
    assert asked == []
    assert threading.active_count() == before
    next(made)
    made.close()


def test_closing_early_ends_the_threads_and_the_source(make_pixcell):
    model, closed = make_pixcell(), []

    def given() -> Iterator[Batch]:
        try:
            yield from batches(model, 1000)
        finally:
            closed.append(True)

    before = threading.active_count()
    made = model.draw(given(), SETTINGS, overlap=True)
    next(made)
    assert threading.active_count() == before + 3
    made.close()
    assert threading.active_count() == before
    assert closed == [True]


@pytest.mark.parametrize("part", ["source", "transformer", "vae"])
def test_an_error_in_a_thread_reaches_the_consumer(make_pixcell, part):
    model = make_pixcell()

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def given() -> Iterator[Batch]:
        yield from batches(model, 2)
        if part == "source":
            raise ValueError("slide is damaged")

    if part == "transformer":
        model.transformer.pos_embed.register_forward_pre_hook(fail)
    if part == "vae":
        model.codec.vae.decoder.register_forward_pre_hook(fail)
    before = threading.active_count()
    made = model.draw(given(), SETTINGS, overlap=True)
    with pytest.raises((PixcellError, ValueError), match=r"slide is damaged|batch of 2 tiles"):
        list(made)
    assert threading.active_count() == before


def test_overflow_names_the_tile_of_a_later_batch(make_pixcell):
    model = make_pixcell()
    calls = 0

    def overflow(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        output = output.clone()
        if calls == 3:
            output[1] = torch.nan
        return output

    model.codec.vae.decoder.register_forward_hook(overflow)
    made = model.draw(batches(model), SETTINGS, overlap=True)
    next(made)
    next(made)
    with pytest.raises(PixcellError, match="tile 5 came out as NaN"):
        next(made)


def test_inference_mode_and_gradients_stay_as_they_were(make_pixcell):
    made = make_pixcell().draw(batches(make_pixcell()), SETTINGS, overlap=True)
    next(made)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    made.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_streams_give_the_same_bytes_as_one(make_pixcell):
    model = make_pixcell()
    model.transformer.cuda()
    model.codec.vae.cuda()
    turns = list(model.draw(batches(model, 12), SETTINGS, overlap=False))
    assert np.array_equal(turns, list(model.draw(batches(model, 12), SETTINGS)))
    assert model.batch_size(SamplerSettings()) == 256
