"""Stage 4: the decoder alone goes on learning while the latents stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pixcell_share.nano.autoencoder import VaeSettings, encode_mean, reconstruction_loss
from pixcell_share.nano.batches import Sampler, to_tensor, turn_tensor
from pixcell_share.nano.device import autocast
from pixcell_share.nano.loop import Budget


@dataclass(frozen=True)
class DecoderSettings:
    """Training of the decoder on the latents of a finished encoder."""

    rate: float = 8e-4
    """Highest learning rate of AdamW."""
    noise: float = 0.1
    """Noise on the latents, as a share of their deviation: generated latents are not exact."""
    budget: Budget = field(default_factory=lambda: Budget(steps=100_000, minutes=40))
    """When to stop."""


class DecoderObjective:
    """Reconstruction from the posterior's mean, turned at random, with a little noise."""

    def __init__(
        self,
        vae: AutoencoderKL,
        sampler: Sampler,
        settings: VaeSettings,
        decoder: DecoderSettings,
        *,
        scale: float,
    ) -> None:
        self._vae = vae
        self._sampler = sampler
        self._settings = settings
        self._noise = decoder.noise / scale
        self._device = next(vae.parameters()).device
        vae.encoder.requires_grad_(False)

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """Draw a batch and return the reconstruction loss."""
        keep = self._settings
        images = to_tensor(self._sampler.draw(keep.batch, rng, keep.crop_px), self._device)
        code = int(rng.integers(8)) if rng.random() < 0.5 else 0
        latents = turn_tensor(encode_mean(self._vae, images), code)
        latents = latents + self._noise * float(rng.random()) * torch.randn_like(latents)
        with autocast(self._device):
            decoded = self._vae.decode(latents).sample
        return reconstruction_loss(decoded, turn_tensor(images, code), keep)
