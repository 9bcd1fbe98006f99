"""Stage 3: the PixCell transformer, trained with v-prediction on latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from pixcell_share.nano.autoencoder import LATENT_CHANNELS
from pixcell_share.nano.batches import turn_each
from pixcell_share.nano.device import autocast
from pixcell_share.nano.latents import SIDE, LatentSet
from pixcell_share.nano.loop import Budget
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel


@dataclass(frozen=True)
class TransformerSettings:
    """Size and training of the transformer."""

    heads: int = 3
    """Attention heads."""
    head_dim: int = 64
    """Channels of a head; heads times this is the width."""
    layers: int = 6
    """Transformer blocks."""
    batch: int = 16
    """Tiles per step."""
    muon_rate: float = 2e-3
    """Highest learning rate of Muon, for the matrices inside the blocks."""
    adam_rate: float = 1e-3
    """Highest learning rate of AdamW, for all else."""
    snr_cap: float = 5.0
    """Signal-to-noise ratio above which time steps count less (Hang et al., arXiv 2303.09556)."""
    drop_condition: float = 0.1
    """Share of tiles trained with the null embedding, for guidance."""
    condition_noise: float = 0.05
    """Noise on the embeddings, in units of their deviation: fewer groups to memorise."""
    average: float = 0.998
    """Decay of the averaged weights, the ones that are shipped."""
    budget: Budget = field(default_factory=lambda: Budget(steps=100_000, minutes=70))
    """When to stop."""


def build_transformer(settings: TransformerSettings, embedding_dim: int) -> Any:
    """A fresh transformer whose blocks start almost as the identity."""
    model = PixCellTransformer2DModel(
        num_attention_heads=settings.heads,
        attention_head_dim=settings.head_dim,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=settings.layers,
        cross_attention_dim=settings.heads * settings.head_dim,
        sample_size=SIDE,
        patch_size=2,
        interpolation_scale=0.5,
        use_additional_conditions=False,
        caption_channels=embedding_dim,
        caption_num_tokens=1,
    )
    _start_quietly(model)
    return model


@torch.no_grad()
def _start_quietly(model: Any) -> None:
    """Zero output and modulation, small gates: as in DiT, but every block learns from step one."""
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    nn.init.zeros_(model.adaln_single.linear.weight)
    nn.init.zeros_(model.adaln_single.linear.bias)
    for block in model.transformer_blocks:
        block.scale_shift_table.zero_()
        block.scale_shift_table[2::3] = 0.1  # the gates of attention and feed-forward
        nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(block.attn2.to_out[0].bias)


def build_scheduler() -> Any:
    """The noise schedule of PixCell (linear, 1e-4 to 0.02, 1000 steps), with v-prediction."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
    )


def build_optimizers(model: nn.Module, settings: TransformerSettings) -> list[Any]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for the rest."""
    inside = [
        weight
        for name, weight in model.named_parameters()
        if name.startswith("transformer_blocks.") and name.endswith(".weight") and weight.ndim == 2
    ]
    known = {id(weight) for weight in inside}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    return [
        torch.optim.Muon(
            inside, lr=settings.muon_rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(rest, lr=settings.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class DenoisingObjective:
    """The weighted squared error of the predicted velocity (Salimans & Ho, arXiv 2202.00512)."""

    def __init__(
        self,
        model: Any,
        latents: LatentSet,
        settings: TransformerSettings,
        *,
        scale: float,
        shift: float,
    ) -> None:
        self._model = model
        self._set = latents
        self._settings = settings
        self._scale, self._shift = scale, shift
        self._device = next(model.parameters()).device
        self._scheduler = build_scheduler()
        kept = self._scheduler.alphas_cumprod
        snr = kept / (1 - kept)
        self._weights = ((snr.clamp_max(settings.snr_cap) + 1) / (snr + 1)).to(self._device)
        self._jitter = settings.condition_noise * float(latents.embeddings.std())

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw tiles, times and noise, and return the loss."""
        clean, condition = self._draw(rng)
        times = self._times(len(clean), rng)
        noise = torch.randn_like(clean)
        noisy = self._scheduler.add_noise(clean, noise, times)
        target = self._scheduler.get_velocity(clean, noise, times)
        with autocast(self._device):
            predicted = self._model(noisy, condition, times, return_dict=False)[0]
        error = F.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3))
        loss: Tensor = (self._weights[times] * error).mean()
        return loss

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Normalised latents (B, 16, 32, 32), turned at random, and conditions (B, 1, D)."""
        chosen = rng.choice(len(self._set.share), self._settings.batch, p=self._set.share)
        raw = torch.from_numpy(self._set.latents[np.sort(chosen)]).to(self._device).float()
        clean = (raw - self._shift) * self._scale
        clean = turn_each(clean, rng.integers(8, size=len(clean)))
        condition = torch.from_numpy(self._set.embeddings[np.sort(chosen)]).to(self._device)
        condition = condition + self._jitter * torch.randn_like(condition)
        dropped = torch.from_numpy(rng.random(len(chosen)) < self._settings.drop_condition)
        null = self._model.null_embedding(len(chosen))
        wide = dropped.to(self._device)[:, None, None]
        return clean, torch.where(wide, null, condition[:, None])

    def _times(self, count: int, rng: np.random.Generator) -> Tensor:
        """One time step in each of ``count`` equal parts of 0..999, in random order."""
        spread = (rng.permutation(count) + rng.random(count)) / count
        return torch.from_numpy((spread * 1000).astype(np.int64)).to(self._device)
