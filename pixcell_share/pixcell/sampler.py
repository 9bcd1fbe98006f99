"""Denoising: DPM-Solver++ with classifier-free guidance, one batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel


@dataclass(frozen=True)
class SamplerSettings:
    """How tiles are drawn.

    ``batch_size`` changes a float32 picture by at most one grey level, the others change it.

    Raises:
        SettingsError: a value is out of range.
    """

    steps: int = 20
    """Steps of the solver, each one or two runs of the transformer."""
    guidance_scale: float | None = None
    """``g`` in ``u + g (c - u)``; 1 is no guidance. None: the model's own."""
    batch_size: int = 16
    """Tiles denoised together."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise SettingsError(f"steps is {self.steps}", "use 1 to 1000 steps; 20 is usual")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size is {self.batch_size}", "use at least 1")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise SettingsError(
                f"guidance_scale is {scale}", "use a number from 0; 1 is no guidance"
            )


def denoise(
    transformer: PixCellTransformer2DModel,
    scheduler: Any,
    noise: Tensor,
    embeddings: Tensor,
    *,
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Turn noise into latents.

    The latents stay float32 between the steps, whatever the transformer's dtype.

    Args:
        transformer: the model, on the device to compute on.
        scheduler: a deterministic diffusers scheduler; it is reset.
        noise: ``(B, in_channels, H, W)``.
        embeddings: ``(B, T, D)``.
        steps: solver steps.
        guidance_scale: ``g`` in ``u + g (c - u)``; at 1 the null branch is not run.

    Returns:
        float32 ``(B, in_channels, H, W)``.
    """
    scheduler.set_timesteps(steps, device=transformer.device)
    latents: Tensor = noise.to(transformer.device, torch.float32) * scheduler.init_noise_sigma
    condition = embeddings.to(transformer.device, transformer.dtype)
    guided = guidance_scale != 1.0
    if guided:
        condition = torch.cat([transformer.null_embedding(len(condition)), condition])
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        prediction = _predict(transformer, model_input, condition, timestep)
        if guided:
            null, conditional = prediction.chunk(2)
            prediction = null + guidance_scale * (conditional - null)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


def _predict(
    transformer: PixCellTransformer2DModel, latents: Tensor, condition: Tensor, timestep: Tensor
) -> Tensor:
    """Run the transformer on as many copies of ``latents`` as ``condition`` asks for.

    Returns:
        float32 prediction without the learned variance, ``(len(condition), in_channels, H, W)``.
    """
    copies = len(condition) // len(latents)
    tokens = latents.to(transformer.dtype).repeat(copies, 1, 1, 1)
    output = transformer(tokens, condition, timestep.expand(len(tokens)), return_dict=False)[0]
    prediction: Tensor = output[:, : latents.shape[1]].float()
    return prediction
