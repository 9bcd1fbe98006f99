"""A small generator that learns a dozen tiles by heart, and the tiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixcell_share.pixcell import PixCell
from pixcell_share.training.batch import Batch
from pixcell_share.training.objective import DiffusionObjective, ObjectiveSettings
from tests.tiny import DIM, make_tiny_model

TILE_PX = 64
CHANNELS, SIDE = 16, TILE_PX // 8


@dataclass
class Group:
    """Tiles of some patients, four of each."""

    latents: np.ndarray
    """(N, C, S, S), unscaled."""
    embeddings: np.ndarray
    """(N, 1, D)"""
    patients: np.ndarray
    """(N,)"""


def make_group(seed: int, count: int = 24) -> Group:
    """Random conditions, and latents that have nothing to do with them but the row."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(size=(count, CHANNELS, 1, 1))
    latents = colours + 0.3 * rng.normal(size=(count, CHANNELS, SIDE, SIDE))
    embeddings = rng.normal(size=(count, 1, DIM))
    patients = np.arange(count) // 4 + 1000 * seed
    return Group(latents.astype(np.float16), embeddings.astype(np.float16), patients)


def load(folder: Path) -> PixCell:
    """The tiny model, untrained; made where it is not there."""
    if not folder.exists():
        make_tiny_model(folder, tile_px=TILE_PX)
    return PixCell.from_pretrained(str(folder))


def learn_by_heart(model: PixCell, group: Group, steps: int = 400) -> None:
    """Train on one group alone, with the trainer's objective."""
    draw = torch.Generator().manual_seed(0)
    raw = torch.from_numpy(group.latents.astype(np.float32))
    clean = (raw - model.codec.shift) * model.codec.scale
    condition = torch.from_numpy(group.embeddings.astype(np.float32))
    kind = model.new_scheduler().config.prediction_type
    objective = DiffusionObjective(ObjectiveSettings(kind, learned_variance=False))
    weights = model.transformer.requires_grad_(True).train().parameters()
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    for _ in range(steps):
        batch = Batch(
            latents=clean,
            condition=condition,
            noise=torch.randn(clean.shape, generator=draw),
            timesteps=torch.randint(0, 1000, (len(clean),), generator=draw),
            dropped=torch.rand(len(clean), generator=draw) < 0.1,
            weights=torch.ones(len(clean)),
            positions=torch.arange(len(clean)),
        )
        optimizer.zero_grad()
        objective(model.transformer, batch).total.backward()
        optimizer.step()
    model.transformer.eval().requires_grad_(False)


def predicting(model: PixCell, prediction: str) -> PixCell:
    """The same weights, whose first outputs are read as another prediction."""
    scheduler = type(model.new_scheduler()).from_config(
        model.new_scheduler().config, prediction_type=prediction
    )
    return PixCell(model.transformer, model.codec, scheduler)
