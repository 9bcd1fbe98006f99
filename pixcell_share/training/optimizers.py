"""Optimizers of a stage, and how their rates go.

What is decayed: with AdamW and CAME every trained weight, biases included, as PixArt and a plain
``AdamW(model.parameters(), weight_decay=...)`` do; with Muon its matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from pixcell_share.errors import SettingsError
from pixcell_share.training.stages import StageSettings

_HIGHEST = "highest_lr"
"""Where a group of parameters keeps its highest rate."""


def build_optimizers(model: nn.Module, settings: StageSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of everything in ``model`` that takes a gradient.

    Args:
        model: on the device to train on, split already where it will be.
        settings: of the stage.

    Raises:
        SettingsError: CAME is not installed, or nothing takes a gradient.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not trained:
        raise SettingsError("the model has nothing to train", "unfreeze it, or add a LoRA")
    if settings.optimizer == "came":
        optimizers = [_came(trained.values(), settings)]
    elif settings.optimizer == "muon":
        optimizers = _muon(trained, settings)
    else:
        optimizers = [_adamw(trained.values(), settings.rate, settings.weight_decay, settings)]
    for group in _groups(optimizers):
        group[_HIGHEST] = group["lr"]
    return optimizers


def _adamw(
    weights: Iterable[nn.Parameter], rate: float, decay: float, settings: StageSettings
) -> torch.optim.Optimizer:
    weights = list(weights)
    betas = (settings.betas[0], settings.betas[1])
    # One kernel for all weights; on a CPU the plain loop stays, as the reference.
    fused = all(weight.device.type == "cuda" for weight in weights)
    return torch.optim.AdamW(weights, lr=rate, betas=betas, weight_decay=decay, fused=fused)


def _came(weights: Iterable[nn.Parameter], settings: StageSettings) -> torch.optim.Optimizer:
    """CAME (Luo et al., arXiv:2307.02047)."""
    try:
        from came_pytorch import CAME
    except ImportError as error:
        raise SettingsError(
            "the optimizer CAME is not installed",
            "install the extra: pip install 'pixcell-share[train]', or use --optimizer adamw",
        ) from error
    optimizer: torch.optim.Optimizer = CAME(
        list(weights), lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    return optimizer


def _muon(trained: dict[str, nn.Parameter], settings: StageSettings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for the rest."""
    matrices = [weight for name, weight in trained.items() if is_block_matrix(name, weight)]
    inside = {id(weight) for weight in matrices}
    rest = [weight for weight in trained.values() if id(weight) not in inside]
    optimizers = [_adamw(rest, settings.rate, 0.0, settings)] if rest else []
    if not matrices:
        return optimizers
    assert settings.matrix_rate is not None
    muon = torch.optim.Muon(
        matrices,
        lr=settings.matrix_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, *optimizers]


def is_block_matrix(name: str, weight: nn.Parameter) -> bool:
    """Whether a weight is a linear layer's matrix inside a transformer block."""
    return "transformer_blocks." in name and name.endswith(".weight") and weight.ndim == 2


def rate_factor(settings: StageSettings, step: int) -> float:
    """The rate of ``step`` (counted from 0), as a share of the highest.

    Warm-up is linear: step ``k`` of ``n`` has ``(k + 1) / n``, so that no step is lost on rate 0.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, settings.steps - warmup))
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * done))


def learning_rate(settings: StageSettings, step: int) -> float:
    """The learning rate of ``step`` (counted from 0); with Muon that of the other weights."""
    return settings.rate * rate_factor(settings, step)


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], settings: StageSettings, step: int
) -> None:
    """Give every group of parameters its rate of ``step`` (counted from 0)."""
    factor = rate_factor(settings, step)
    for group in _groups(optimizers):
        group["lr"] = group[_HIGHEST] * factor


def _groups(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]
