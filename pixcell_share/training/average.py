"""The exponential moving average of the weights: what is sampled from and exported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pixcell_share.training.distributed import local


class Average:
    """A float32 moving average of the trained parameters, split over the ranks as they are.

    The decay of step ``n`` is ``min(decay, (1 + n) / (10 + n))``, so that a short run is not an
    average of its random start.

    Args:
        parameters: the trained parameters by name.
        decay: highest decay per step.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in parameters.items()
        }

    def decay_at(self, step: int) -> float:
        """The decay of the update after ``step`` steps."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after ``step`` steps."""
        kept = [local(value) for value in self.weights.values()]
        new = [local(value.detach()) for value in self._parameters.values()]
        torch._foreach_lerp_(kept, new, 1 - self.decay_at(step))
