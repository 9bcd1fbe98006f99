"""The projection from tokens to prototypes; used in training alone, not exported.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/layers/dino_head.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-5
"""As in torch's batch norm."""


@dataclass(frozen=True)
class HeadSettings:
    """The size of a projection head."""

    prototypes: int = 65_536
    """Outputs."""
    hidden: int = 2048
    """Channels of the hidden layers."""
    bottleneck: int = 256
    """Channels of the unit vectors that are compared with the prototypes."""
    layers: int = 3
    """Linear layers before the prototypes."""
    standardised: bool = False
    """Whether each channel of these layers gets mean 0 and deviation 1 over the batch (iBOT's
    ``norm`` and ``last_norm``, without weights of their own). At a random start all images look
    nearly alike to a head, and with some dozens of them at a time the targets become uniform
    before they differ; DINOv2's batches and weeks do without."""


class ProjectionHead(nn.Module):
    """Tokens (..., D) to logits (..., prototypes).

    Args:
        width: channels of a token.
        settings: the sizes.
    """

    def __init__(self, width: int, settings: HeadSettings) -> None:
        super().__init__()
        sizes = [width, *[settings.hidden] * (settings.layers - 1), settings.bottleneck]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers.append(nn.Linear(inputs, outputs))
            if settings.standardised:
                layers.append(Standardised())
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers[:-1])
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last_layer = Prototypes(settings.bottleneck, settings.prototypes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each token."""
        logits: Tensor = self.last_layer(F.normalize(self.mlp(tokens), dim=-1, eps=1e-12))
        return logits


class Standardised(nn.Module):
    """Batch norm without weights and without a memory, of a micro-batch on its rank.

    Torch's refuses a single row, and none: a crop may have no masked patch.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, C), in float32 with mean 0 and deviation 1 in each channel."""
        tokens = tokens.float()
        if not len(tokens):
            return tokens
        variance, mean = torch.var_mean(tokens, dim=0, correction=0)
        return (tokens - mean) * torch.rsqrt(variance + _EPS)


class Prototypes(nn.Module):
    """A linear layer whose rows have a direction and a length of their own (weight norm).

    ``torch.nn.utils.weight_norm`` in two parameters and one line: its hooks and parametrisations
    fit neither FSDP2 nor a plain state dict.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_uniform_(self.direction, a=5**0.5)
        self.length = nn.Parameter(torch.ones(outputs, 1))

    def forward(self, unit: Tensor) -> Tensor:
        """Unit vectors (..., inputs) to logits (..., outputs)."""
        weight = torch._weight_norm(self.direction, self.length, 0)
        return F.linear(unit, weight)
