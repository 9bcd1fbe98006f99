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

MAX_TIMESTEP = 999
"""Time steps of the noise schedule run from 0 (no noise) to this."""


@dataclass(frozen=True)
class SamplerSettings:
    """How tiles are drawn.

    ``batch_size`` and ``compile`` change a float32 picture by at most one grey level. Everything
    else changes it: a faster setting than the defaults needs its own audit.

    Raises:
        SettingsError: a value is out of range.
    """

    steps: int = 20
    """Steps of the solver, each one or two runs of the transformer."""
    guidance_scale: float | None = None
    """``g`` in ``u + g (c - u)``; 1 is no guidance. None: the model's own."""
    batch_size: int | None = None
    """Tiles denoised together. None: what suits the device."""
    guidance_interval: tuple[float, float] | None = None
    """Changes the result. First and last time step (0 to 999) that are guided; the others run
    the condition alone, at half the cost (arXiv:2404.07724). None: all are."""
    block_cache: int | None = None
    """Changes the result. Compute the transformer's blocks in three steps and then only in every
    ``block_cache``-th, and extrapolate the others (TaylorSeer, arXiv:2503.06923). None: all."""
    compile: bool = False
    """Compile the transformer's block for whole batches: about a minute once, then faster."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise SettingsError(f"steps is {self.steps}", "use 1 to 1000 steps; 20 is usual")
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError(f"batch_size is {self.batch_size}", "use at least 1")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise SettingsError(
                f"guidance_scale is {scale}", "use a number from 0; 1 is no guidance"
            )
        if self.block_cache is not None and self.block_cache < 2:
            raise SettingsError(f"block_cache is {self.block_cache}", "use 2 or 3, or leave it out")
        low, high = self.guidance_interval or (0, MAX_TIMESTEP)
        if not 0 <= low <= high <= MAX_TIMESTEP:
            raise SettingsError(
                f"guidance_interval is {low:g}-{high:g}",
                f"use two time steps from 0 to {MAX_TIMESTEP}, the smaller first: 100-900",
            )

    @property
    def name(self) -> str:
        """The sampler and what changes its result, for a bundle's ``generation.sampler``."""
        words = ["dpm-solver++"]
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            words.append(f"guided from {low:g} to {high:g}")
        if self.block_cache is not None:
            words.append(f"block cache {self.block_cache}")
        return ", ".join(words)

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults and may change bytes."""
        names = ("guidance_interval", "block_cache", "compile")
        values = {name: getattr(self, name) for name in names}
        return {name: _plain(value) for name, value in values.items() if value}


def parse_batch_size(text: str) -> int | None:
    """Read ``--batch-size``: a number, or ``auto`` for None.

    Raises:
        SettingsError: it is neither.
    """
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise SettingsError(f"--batch-size {text} is no number", "use auto, or 1 and up") from error


def parse_interval(text: str | None) -> tuple[float, float] | None:
    """Read ``--guidance-interval 100-900``; None stays None.

    Raises:
        SettingsError: it is not two numbers.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError as error:
        raise SettingsError(
            f"--guidance-interval {text} is not two time steps", "write it as 100-900"
        ) from error
    return low, high


def denoise(
    transformer: PixCellTransformer2DModel,
    scheduler: Any,
    noise: Tensor,
    embeddings: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    guidance_interval: tuple[float, float] | None = None,
    block_cache: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """Turn noise into latents.

    The latents stay float32 between the steps, whatever the transformer's dtype. No gradient
    flows through.

    Args:
        transformer: the model in eval mode, on the device to compute on.
        scheduler: a deterministic diffusers scheduler; it is reset.
        noise: ``(B, in_channels, H, W)``.
        embeddings: ``(B, T, D)``.
        steps: solver steps.
        guidance_scale: ``g`` in ``u + g (c - u)``; at 1 the null branch is not run.
        guidance_interval: changes the result; see `SamplerSettings`.
        block_cache: changes the result; see `SamplerSettings`.
        compiled: run the blocks through `torch.compile`.

    Returns:
        float32 ``(B, in_channels, H, W)``.

    Raises:
        WeightsMismatchError: noise or embeddings are not what the model was made for.
    """
    # The solver's own numbers stay on the CPU: a GPU need not be waited for to read them.
    scheduler.set_timesteps(steps, device="cpu")
    latents: Tensor = noise.to(transformer.device, torch.float32) * scheduler.init_noise_sigma
    model = GuidedModel(
        transformer,
        embeddings,
        scheduler.timesteps,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        block_cache=block_cache,
        compiled=compiled,
    )
    for step, timestep in enumerate(scheduler.timesteps):
        prediction = model.predict(scheduler.scale_model_input(latents, timestep), step)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
