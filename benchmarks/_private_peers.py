"""Private steps by opacus' own classes, whose record is a row of the batch: a tile."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn
from torch.optim import Optimizer

from pixcell_share.training.batch import Batch
from pixcell_share.training.objective import DiffusionObjective, conditions

Step = Callable[[Batch], None]


def ghost_step(
    model: nn.Module,
    optimizer: Optimizer,
    objective: DiffusionObjective,
    *,
    clip: float,
    noise: float,
    expected: int,
    bf16: bool,
) -> Step:
    """``grad_sample_mode="ghost"``: norms first, then a second backward pass.

    Opacus wants the loss apart from the model, so the objective is taken apart here.
    """
    wrapped = wrap(model, GradSampleModuleFastGradientClipping, max_grad_norm=clip)
    private = DPOptimizerFastGradientClipping(
        optimizer, noise_multiplier=noise, max_grad_norm=clip, expected_batch_size=expected
    )
    loss = DPLossFastGradientClipping(wrapped, private, _SquaredError(), loss_reduction="mean")

    def step(batch: Batch) -> None:
        noisy = objective.diffusion.add_noise(batch.latents, batch.noise, batch.timesteps)
        with torch.autocast(batch.noise.device.type, torch.bfloat16, enabled=bf16):
            given = conditions(wrapped, batch)
            output = wrapped(noisy, given, batch.timesteps, return_dict=False)[0].float()
        loss(output[:, : noisy.shape[1]], objective._target(batch)).backward()
        private.step()
        private.zero_grad()

    return step


def wrap(model: nn.Module, kind: type = GradSampleModule, **more: float) -> nn.Module:
    """The model with opacus' hooks on what is trained in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = kind(model, loss_reduction="mean", strict=False, **more)
    wrapped.null_embedding = model.null_embedding
    return wrapped


class _SquaredError(nn.Module):
    """Mean squared error of each tile, or over all."""

    reduction = "mean"

    def forward(self, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        errors = (found - wanted).square().flatten(1).mean(1)
        return errors if self.reduction == "none" else errors.mean()
