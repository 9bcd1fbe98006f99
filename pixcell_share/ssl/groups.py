"""The optimizer's groups: rates by depth, decay by kind of weight.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/utils/param_groups.py``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import nn

from pixcell_share.ssl.schedules import StepSchedule
from pixcell_share.ssl.settings import GroupSettings

_FIRST = ("pos_embed", "patch_embed", "mask_token", "cls_token", "register_tokens")
"""What stands before the first block."""


class Treatment(NamedTuple):
    """How a weight is trained; weights treated alike are one group."""

    rate_factor: float
    decayed: bool
    last_layer: bool


def treatment(name: str, depth: int, settings: GroupSettings) -> Treatment:
    """How a weight of the student is trained.

    Args:
        name: such as ``backbone.blocks.3.mlp.fc1.weight``.
        depth: blocks of the backbone.
        settings: the factors.
    """
    factor = settings.layer_decay ** (depth + 1 - _layer(name, depth))
    if "patch_embed" in name:
        factor *= settings.patch_factor
    undecayed = name.endswith(".bias") or "norm" in name or "gamma" in name
    return Treatment(factor, not undecayed, "last_layer" in name)


def _layer(name: str, depth: int) -> int:
    """0 before the first block, 1 for the first, depth + 1 for what follows the last."""
    if name.startswith("backbone.") and any(part in name for part in _FIRST):
        return 0
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else depth + 1


def build_optimizer(
    student: nn.Module, depth: int, settings: GroupSettings
) -> torch.optim.Optimizer:
    """AdamW over the student's weights, with a group for each treatment.

    Args:
        student: on the device to train on, split already where it will be.
        depth: blocks of the backbone.
        settings: the factors.
    """
    groups: dict[Treatment, list[nn.Parameter]] = defaultdict(list)
    for name, weight in student.named_parameters():
        groups[treatment(name, depth, settings)].append(weight)
    listed = [{"params": weights, **kind._asdict()} for kind, weights in groups.items()]
    return torch.optim.AdamW(listed, lr=0.0, betas=settings.betas, fused=True)


def set_schedule(optimizer: torch.optim.Optimizer, now: StepSchedule) -> None:
    """Give every group the rate and decay of a step."""
    for group in optimizer.param_groups:
        rate = now.last_layer_rate if group["last_layer"] else now.rate
        group["lr"] = rate * group["rate_factor"]
        group["weight_decay"] = now.weight_decay if group["decayed"] else 0.0
