"""Targets by centring: subtract a moving mean of the teacher's logits, then sharpen.

After facebookresearch/dinov2 (Apache-2.0), ``softmax_center_teacher`` and ``update_center``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
"""Of the centre, as DINO has it."""


class Centre(nn.Module):
    """The moving mean of the teacher's logits over all ranks.

    Args:
        prototypes: K, the number of logits.
        momentum: share of the old centre that a step keeps.
    """

    value: Tensor
    _sum: Tensor
    _count: Tensor

    def __init__(self, prototypes: int, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))
        # Of the micro-batches of a step; empty between steps, so no checkpoint needs it.
        self.register_buffer("_sum", torch.zeros(prototypes), persistent=False)
        self.register_buffer("_count", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def targets(self, logits: Tensor, temperature: float) -> Tensor:
        """Distributions of logits (N, K), with the centre of the steps before; counts them."""
        logits = logits.float()
        self._sum += logits.sum(0)
        self._count += len(logits)
        return torch.softmax((logits - self.value) / temperature, dim=-1)

    @torch.no_grad()
    def update(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Move the centre, once after a step.

        Args:
            add_up: the sum of a tensor over the ranks.
        """
        # One sum over the ranks for both; without a row (no mask in the step) nothing moves.
        both = add_up(torch.cat([self._sum, self._count[None]]))
        mean = both[:-1] / both[-1].clamp(min=1)
        moved = self.value * self.momentum + mean * (1 - self.momentum)
        self.value.copy_(torch.where(both[-1] > 0, moved, self.value))
        self._sum.zero_()
        self._count.zero_()
