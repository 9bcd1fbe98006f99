"""Small stores with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixcell_share.training.latents import IndexRow, Split, StoreInfo, StoreWriter

CHANNELS, SIDE, GRID, DIM = 4, 8, 2, 6


def make_info(shard_rows: int = 5) -> StoreInfo:
    return StoreInfo(
        region_px=512, grid=GRID, mpp=0.5, latent_channels=CHANNELS, latent_side=SIDE,
        embedding_dim=DIM, scaling_factor=1.5, shift_factor=0.06, vae={"name": "v"},
        encoder={"name": "e"}, vae_source="nano", encoder_source="nano", encoder_weights=None,
        shard_rows=shard_rows,
    )  # fmt: skip


def row_values(number: int) -> tuple[np.ndarray, np.ndarray, IndexRow]:
    """Latents and embeddings that only row ``number`` has."""
    draw = np.random.default_rng(number)
    latents = draw.normal(size=(CHANNELS, SIDE, SIDE)).astype(np.float16)
    embeddings = draw.normal(size=(GRID**2, DIM)).astype(np.float16)
    case = f"c{number // 4}"
    return latents, embeddings, IndexRow(f"s{number // 2}", case, "lung", "here", str(number), "0")


def fill(writer: StoreWriter, numbers: range, split: Split = "train") -> None:
    for number in numbers:
        writer.add(split, *row_values(number))


def make_store(folder: Path, train: int = 12, holdout: int = 3, shard_rows: int = 5) -> Path:
    """A finished store; holdout rows are numbered from 1000 on."""
    with StoreWriter(folder, make_info(shard_rows)) as writer:
        fill(writer, range(train))
        fill(writer, range(1000, 1000 + holdout), "holdout")
        writer.finish()
    return folder
