"""Denoising: DPM-Solver++ with classifier-free guidance, one batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import SettingsError
from pixcell_share.pixcell.guided import GuidedModel
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
    # The solver's own numbers stay on the CPU: a GPU need not be waited for to read them.
    scheduler.set_timesteps(steps, device="cpu")
    latents: Tensor = noise.to(transformer.device, torch.float32) * scheduler.init_noise_sigma
    model = GuidedModel(transformer, embeddings, scheduler.timesteps, guidance_scale=guidance_scale)
    for step, timestep in enumerate(scheduler.timesteps):
        prediction = model.predict(scheduler.scale_model_input(latents, timestep), step)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents
