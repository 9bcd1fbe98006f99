"""Stage 1: the VAE, an `AutoencoderKL` with 16 latent channels at an eighth of the resolution."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from pixcell_share.nano.batches import MixSettings, Sampler, to_tensor, turn_tensor
from pixcell_share.nano.device import autocast
from pixcell_share.nano.loop import Budget

LATENT_CHANNELS = 16
SCALE = 8
"""Pixels per latent."""

# Lightness, red against blue, and green against both; the hues vary less and so count more.
_OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (1.5, 0.0, -1.5), (-0.75, 1.5, -0.75))


@dataclass(frozen=True)
class VaeSettings:
    """Size and training of the VAE."""

    channels: tuple[int, ...] = (16, 48, 96, 160)
    """Channels per resolution; four of them give the factor of 8."""
    layers: int = 1
    """Residual blocks per resolution in the encoder; the decoder has one more."""
    norm_groups: int = 8
    """Groups of every GroupNorm; divides all channels."""
    crop_px: int = 96
    """Side of a training crop."""
    batch: int = 6
    """Crops per step."""
    rate: float = 1.2e-3
    """Highest learning rate of AdamW."""
    kl: float = 3e-3
    """Weight of the mean KL divergence to N(0, 1)."""
    gradient: float = 0.5
    """Weight of the L1 distance of image gradients, at two scales: keeps edges."""
    colour: float = 2.0
    """Weight of `colour_distance`: without it a short training loses red cells and stain shifts."""
    pooled_every: int = 3
    """Every so many steps, half-size latents must decode to the half-size image."""
    budget: Budget = field(default_factory=lambda: Budget(steps=100_000, minutes=50))
    """When to stop."""
    mix: MixSettings = field(default_factory=MixSettings)
    """Which tiles to learn from."""


def build_vae(settings: VaeSettings) -> AutoencoderKL:
    """A fresh VAE: no attention, no 1×1 convolutions around the latent."""
    stages = len(settings.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=settings.norm_groups,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=256,
        force_upcast=False,
    )


class VaeObjective:
    """The loss of one random batch.

    Turning the latent must turn the picture, and shrinking the latent must shrink it: such
    latents are easier for a diffusion model (the idea of EQ-VAE, arXiv 2502.09509).
    """

    def __init__(self, vae: AutoencoderKL, sampler: Sampler, settings: VaeSettings) -> None:
        self._vae = vae
        self._sampler = sampler
        self._settings = settings
        self._device = next(vae.parameters()).device

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw a batch and return reconstruction plus weighted KL."""
        keep = self._settings
        images = to_tensor(self._sampler.draw(keep.batch, rng, keep.crop_px), self._device)
        with autocast(self._device):
            posterior = self._vae.encode(images).latent_dist
            latents = posterior.sample()
            code = int(rng.integers(8)) if rng.random() < 0.5 else 0
            decoded = self._vae.decode(turn_tensor(latents, code)).sample
        loss = reconstruction_loss(decoded, turn_tensor(images, code), keep)
        loss = loss + keep.kl * posterior.kl().mean() / latents[0].numel()
        if rng.integers(keep.pooled_every) == 0:
            loss = loss + 0.5 * self._pooled(latents, images)
        total: Tensor = loss
        return total

    def _pooled(self, latents: Tensor, images: Tensor) -> Tensor:
        with autocast(self._device):
            decoded = self._vae.decode(F.avg_pool2d(latents, 2)).sample
        return F.l1_loss(decoded.float(), F.avg_pool2d(images, 2))


def reconstruction_loss(decoded: Tensor, images: Tensor, settings: VaeSettings) -> Tensor:
    """L1, squared, gradient and colour distance of (B, 3, H, W) pictures in [-1, 1]."""
    decoded = decoded.float()
    loss = F.l1_loss(decoded, images) + F.mse_loss(decoded, images)
    loss = loss + settings.gradient * gradient_distance(decoded, images)
    return loss + settings.colour * colour_distance(decoded, images)


def colour_distance(a: Tensor, b: Tensor, widths: tuple[int, ...] = (2, 8)) -> Tensor:
    """Mean L1 distance of local means in opponent colours; the two hues count three times."""
    opponent = torch.tensor(_OPPONENT, device=a.device)
    difference = torch.einsum("oc,bchw->bohw", opponent, a - b)
    parts = [F.avg_pool2d(difference, width).abs().mean() for width in widths]
    return torch.stack(parts).mean()


def gradient_distance(a: Tensor, b: Tensor, scales: int = 2) -> Tensor:
    """Mean L1 distance of horizontal and vertical differences, at ``scales`` resolutions."""
    difference = a - b
    total = difference.new_zeros(())
    for _ in range(scales):
        total = total + difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total / scales


def latent_moments(latents: Tensor) -> tuple[float, float]:
    """``(scaling_factor, shift_factor)`` that give latents (N, 16, h, w) mean 0 and deviation 1."""
    return 1.0 / float(latents.std()), float(latents.mean())


def normalise(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents as the transformer sees them: (z - shift) * scale."""
    shifted: Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    return shifted


@torch.no_grad()
def encode_mean(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Mean of the posterior of (B, 3, H, W): (B, 16, H/8, W/8), as the VAE gives it."""
    with autocast(images.device):
        mean: Tensor = vae.encode(images).latent_dist.mean
    return mean.float()
