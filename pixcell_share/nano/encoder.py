"""Stage 2: the encoder, a small timm ViT trained by contrast and by predicting the descriptor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixcell_share.nano.batches import MixSettings, Sampler, to_tensor
from pixcell_share.nano.descriptor import DESCRIPTOR_DIM, Standard, describe
from pixcell_share.nano.device import autocast
from pixcell_share.nano.loop import Budget
from pixcell_share.nano.tiles import TILE_PX, TileSet

INPUT_PX = 224
MEAN = (0.5, 0.5, 0.5)
"""Of the input, in [0, 1]; with `STD` this maps a picture to [-1, 1]."""
STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class EncoderSettings:
    """Size and training of the encoder."""

    architecture: str = "vit_tiny_patch16_224"
    """Name in timm's registry."""
    dim: int = 192
    """Width, and so the number of features."""
    depth: int = 6
    """Transformer blocks."""
    heads: int = 3
    """Attention heads; divides ``dim``."""
    patch_drop: float = 0.7
    """Share of patches that a training view leaves out: the views are patch subsets."""
    batch: int = 64
    """Tiles per step, each seen in two views."""
    rate: float = 1e-3
    """Highest learning rate of AdamW."""
    temperature: float = 0.15
    """Of the contrastive loss."""
    describe_weight: float = 1.0
    """Weight of the squared error of the predicted, standardised descriptor."""
    describe_tiles: int = 16
    """Tiles of a batch that the descriptor is computed for: it costs as much as the encoder."""
    smallest_crop: int = 208
    """Smallest side of the square that is resized to 224 px."""
    budget: Budget = field(default_factory=lambda: Budget(steps=3000, minutes=18))
    """When to stop."""
    mix: MixSettings = field(default_factory=MixSettings)
    """Which tiles to learn from."""

    def model_args(self) -> dict[str, Any]:
        """Arguments of `timm.create_model` beside the architecture's name."""
        return {
            "embed_dim": self.dim,
            "depth": self.depth,
            "num_heads": self.heads,
            "class_token": False,
            "global_pool": "avg",
        }


def build_encoder(settings: EncoderSettings, *, training: bool = True) -> nn.Module:
    """A fresh ViT without a head: (B, 3, 224, 224) to (B, dim)."""
    drop = settings.patch_drop if training else 0.0
    model: nn.Module = timm.create_model(
        settings.architecture,
        pretrained=False,
        num_classes=0,
        patch_drop_rate=drop,
        **settings.model_args(),
    )
    return model


class EncoderWithHeads(nn.Module):
    """The encoder and the two heads that exist during training only."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.encoder = build_encoder(settings)
        self.project = nn.Sequential(
            nn.Linear(settings.dim, settings.dim), nn.GELU(), nn.Linear(settings.dim, 64)
        )
        self.describe = nn.Linear(settings.dim, DESCRIPTOR_DIM)


class EncoderObjective:
    """Two views of a tile agree against all other tiles, and each predicts the descriptor."""

    def __init__(
        self,
        model: EncoderWithHeads,
        sampler: Sampler,
        standard: Standard,
        settings: EncoderSettings,
    ) -> None:
        self._model = model
        self._sampler = sampler
        self._standard = standard
        self._settings = settings
        self._device = next(model.parameters()).device

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw a batch of tiles and return the sum of both losses."""
        keep = self._settings
        images = to_tensor(self._sampler.draw(keep.batch, rng), self._device)
        known = min(keep.describe_tiles, keep.batch)
        target = self._standard(describe(images[:known]))
        views = torch.cat([self._view(images, rng), self._view(images, rng)])
        with autocast(self._device):
            features = self._model.encoder(views)
            projected = self._model.project(features)
            described = self._model.describe(features.unflatten(0, (2, -1))[:, :known])
        first, second = projected.float().unflatten(0, (2, -1))
        loss = contrast(first, second, keep.temperature)
        error = F.mse_loss(described.float(), target.expand(2, -1, -1))
        return loss + keep.describe_weight * error

    def _view(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """One crop for the whole batch, resized, flipped or turned."""
        side = int(rng.integers(self._settings.smallest_crop, TILE_PX + 1))
        top, left = (int(rng.integers(TILE_PX - side + 1)) for _ in range(2))
        crop = images[:, :, top : top + side, left : left + side]
        view = F.interpolate(crop, size=(INPUT_PX, INPUT_PX), mode="bilinear", antialias=side > 240)
        view = torch.rot90(view, int(rng.integers(4)), dims=(2, 3))
        return view.flip(3) if rng.random() < 0.5 else view


def contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709) of paired rows (B, D)."""
    rows = F.normalize(torch.cat([first, second]), dim=1)
    logits = rows @ rows.T / temperature
    logits.fill_diagonal_(-torch.inf)
    count = len(first)
    partner = torch.arange(2 * count, device=rows.device).roll(count)
    return F.cross_entropy(logits, partner)


@torch.no_grad()
def training_standard(tiles: TileSet, device: torch.device, count: int = 400) -> Standard:
    """Mean and deviation of the descriptor over ``count`` evenly spaced training tiles."""
    chosen = tiles.train[:: max(1, len(tiles.train) // count)]
    parts = [
        describe(to_tensor(tiles.lung[chosen[at : at + 50]], device))
        for at in range(0, len(chosen), 50)
    ]
    return Standard.of(torch.cat(parts))


@torch.no_grad()
def embed(encoder: nn.Module, images: Tensor) -> Tensor:
    """Features (B, dim) of (B, 3, 256, 256) pictures in [-1, 1], as the registry computes them."""
    size = (INPUT_PX, INPUT_PX)
    small = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
    features: Tensor = encoder(small)
    return features.float()
