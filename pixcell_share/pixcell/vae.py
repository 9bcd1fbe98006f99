"""Between pictures and latents: diffusers' ``AutoencoderKL`` with its own scale and shift.

Pixels are ``p = v / 127.5 - 1`` in [-1, 1]; back, ``p`` is clamped and ``v`` rounded to the
nearest grey level in float32, so that ``p = 0`` is 128. Latents are ``(z - shift) * scale``; the
SD3 VAE has scale 1.5305 and shift 0.0609.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_DECODE_PIXELS = 16 * 256 * 256
"""Pixels decoded at once: 16 tiles of 256 px or one of 1024 px, about 3 GiB with the SD3 VAE."""


def to_pixels(images: npt.NDArray[np.uint8]) -> Tensor:
    """``uint8 (B, H, W, 3)`` to float32 ``(B, 3, H, W)`` in [-1, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return tensor.float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Float ``(B, 3, H, W)`` in [-1, 1] to ``uint8 (B, H, W, 3)``, the inverse of `to_pixels`."""
    levels = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class LatentCodec:
    """A VAE with the scale and shift of its own config.

    Args:
        vae: a diffusers ``AutoencoderKL``.
    """

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.scale = float(vae.config.scaling_factor)
        self.shift = float(vae.config.shift_factor or 0.0)

    @property
    def channels(self) -> int:
        """Latent channels (16 with the SD3 VAE)."""
        return int(self.vae.config.latent_channels)

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent pixel (8 with the SD3 VAE)."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of the posterior's mean.

        Args:
            pixels: ``(B, 3, H, W)`` in [-1, 1].

        Returns:
            float32 ``(B, channels, H / factor, W / factor)``.
        """
        posterior = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist
        mean: Tensor = posterior.mode().float()
        return (mean - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, in slices that bound the memory.

        Args:
            latents: ``(B, channels, h, w)``.

        Returns:
            float32 ``(B, 3, h * factor, w * factor)``, about [-1, 1].
        """
        raw = (latents.float() / self.scale + self.shift).to(self.vae.device, self.vae.dtype)
        pixels = raw.shape[-2] * raw.shape[-1] * self.factor**2
        slices = torch.split(raw, max(1, _DECODE_PIXELS // pixels))
        return torch.cat([self.vae.decode(part, return_dict=False)[0].float() for part in slices])
