"""The packaged model, on real tiles of groups that it never saw."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from pixcell_share.encoders import load_encoder
from pixcell_share.nano.fidelity import colour_agreement, psnr
from pixcell_share.pixcell import PixCell, PixCellTransformer2DModel, SamplerSettings, to_pixels
from pixcell_share.pixcell import to_uint8 as to_levels

PSNR_FLOOR_DB = 24.0
COUNT = 16


@pytest.fixture(scope="module")
def model(weights: Path) -> PixCell:
    return PixCell.from_pretrained("nano", dtype="bf16")


@pytest.fixture(scope="module")
def synthetic(model: PixCell, held_out_tiles: np.ndarray) -> np.ndarray:
    embeddings = load_encoder("nano").embed(held_out_tiles[::2])
    settings = SamplerSettings(steps=10, batch_size=8)
    return np.stack(list(model.generate(embeddings, range(COUNT), settings)))


def test_the_weights_take_at_most_40_megabytes(weights: Path) -> None:
    files = list(weights.rglob("*.safetensors"))
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) <= 40e6


def test_the_parts_are_of_the_real_classes(model: PixCell) -> None:
    assert isinstance(model.codec.vae, AutoencoderKL)
    assert isinstance(model.transformer, PixCellTransformer2DModel)
    assert (model.codec.channels, model.codec.factor, model.tile_px) == (16, 8, 256)
    assert model.embedding_dim == load_encoder("nano").dim
    assert model.codec.scale > 0 and bool(model.transformer.null_embedding(1).isfinite().all())


@torch.inference_mode()
def test_held_out_tiles_are_reconstructed(model: PixCell, held_out_tiles: np.ndarray) -> None:
    parts = [
        to_levels(model.codec.decode(model.codec.encode(to_pixels(part)))).numpy()
        for part in np.split(held_out_tiles, 4)
    ]
    assert psnr(held_out_tiles, np.concatenate(parts)) > PSNR_FLOOR_DB


def test_synthetic_tiles_are_not_blank_or_constant(synthetic: np.ndarray) -> None:
    assert (synthetic.std(axis=(1, 2)).mean(axis=1) > 8).all()


@pytest.mark.slow
def test_synthetic_tiles_are_as_diverse_as_real_ones(
    synthetic: np.ndarray, held_out_tiles: np.ndarray
) -> None:
    drawn, real = _pairwise(synthetic), _pairwise(held_out_tiles[::2])
    assert min(drawn) > 10
    assert np.median(drawn) > 0.6 * np.median(real)


@pytest.mark.slow
def test_colours_follow_the_condition(synthetic: np.ndarray, held_out_tiles: np.ndarray) -> None:
    figures = colour_agreement(synthetic, held_out_tiles[::2])
    assert figures["correlation_own"] > 0.7
    assert figures["correlation_own"] > figures["correlation_shuffled"] + 0.3
    assert figures["grey_levels_own"] < 0.7 * figures["grey_levels_shuffled"]


@pytest.mark.slow
def test_seeds_give_different_tiles(model: PixCell, held_out_tiles: np.ndarray) -> None:
    embedding = load_encoder("nano").embed(held_out_tiles[:1]).repeat(2, axis=0)
    first, second = model.generate(embedding, [1, 2], SamplerSettings(steps=4))
    assert np.abs(first.astype(int) - second).mean() > 5


def _pairwise(images: np.ndarray) -> list[float]:
    """Mean absolute difference in grey levels of every pair, at a quarter of the resolution."""
    small = images.reshape(len(images), 64, 4, 64, 4, 3).mean(axis=(2, 4))
    return [float(np.abs(a - b).mean()) for a, b in combinations(small, 2)]
