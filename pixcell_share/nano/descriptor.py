"""Forty-five plain numbers about colour and texture: a yardstick that no model of ours made.

The encoder learns to predict it, so that embeddings carry stain and density; the evaluation uses
it for a Fréchet distance that does not go through the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DESCRIPTOR_DIM = 45

# Optical density to haematoxylin and eosin: the first two columns of the inverse of the stain
# matrix of Ruifrok & Johnston 2001 (Anal Quant Cytol Histol 23:291), as in skimage.hed_from_rgb.
_STAIN_OD = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_LEVELS = (0.05, 0.5, 0.95)
_BANDS = (1, 2, 4, 8)


def describe(images: Tensor) -> Tensor:
    """Describe (B, 3, H, W) pictures in [-1, 1] by (B, 45) numbers, not yet standardised.

    For red, green, blue, haematoxylin and eosin: mean, standard deviation and the 5, 50 and 95 %
    levels; then the logarithm of the standard deviation in four frequency bands, 1 to 16 px.
    """
    channels = torch.cat([(images + 1) / 2, _stains(images)], dim=1)
    flat = channels.flatten(2)
    levels = torch.quantile(flat[:, :, ::7], torch.tensor(_LEVELS, device=flat.device), dim=2)
    parts = [flat.mean(2), flat.std(2), *levels]
    for width in _BANDS:
        fine = F.avg_pool2d(channels, width)
        coarse = F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2.0)
        parts.append((fine - coarse).flatten(2).std(2).add(1e-3).log())
    return torch.cat(parts, dim=1)


def _stains(images: Tensor) -> Tensor:
    """Haematoxylin and eosin densities (B, 2, H, W), about 0 to 1."""
    density = -(((images + 1) / 2).clamp_min(1e-2)).log10()
    unmix = torch.linalg.inv(torch.tensor(_STAIN_OD, device=images.device))
    return torch.einsum("bchw,cs->bshw", density, unmix[:, :2].contiguous())


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of the descriptor over training tiles."""

    mean: Tensor
    """(45,)"""
    deviation: Tensor
    """(45,)"""

    @classmethod
    def of(cls, descriptors: Tensor) -> Standard:
        """From descriptors (N, 45) of training tiles."""
        return cls(descriptors.mean(0), descriptors.std(0).clamp_min(1e-4))

    def __call__(self, descriptors: Tensor) -> Tensor:
        """(B, 45) with mean 0 and deviation 1 over the training tiles."""
        return (descriptors - self.mean) / self.deviation
