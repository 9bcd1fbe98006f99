"""What a step measures, summed over micro-batches, ranks and the steps between two log lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixcell_share.ssl.distillation import StepLosses

PARTS = ("loss", "dino", "ibot", "koleo")
"""The figures of a log line that are means over its steps."""
_STOP, _BAD, _WAIT, _LOSS = range(4)
_SIZE = 3 + len(PARTS)


class StepFigures:
    """One step on one rank; `vector` is what the ranks add up.

    Args:
        device: where the losses are: nothing is copied from it before the step's end.
        parts: micro-batches of the step, over all ranks.
    """

    def __init__(self, device: torch.device, parts: int) -> None:
        self._parts = parts
        self.vector = torch.zeros(_SIZE, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, losses: StepLosses) -> None:
        """Count one micro-batch."""
        values = torch.cat([losses.total.detach()[None], losses.parts]).double()
        self.vector[_BAD] += (~torch.isfinite(values)).sum()
        self.vector[_LOSS:] += torch.nan_to_num(values) / self._parts

    def note(self, *, stop: bool, waited: float) -> Tensor:
        """The vector to add up, with this rank's wish to stop and share of the waiting."""
        self.vector[_STOP] = float(stop)
        self.vector[_WAIT] = waited
        return self.vector


class Meter:
    """Sums since the last log line; kept in checkpoints, so that a resumed run logs the same.

    Attributes:
        sums: float64, of `PARTS`, of the gradient norms, and the number of steps.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(len(PARTS) + 2, dtype=torch.float64)

    def add(self, vector: Tensor, norm: float) -> None:
        """Count one step, whose vector the ranks have added up."""
        self.sums[: len(PARTS)] += vector[_LOSS:]
        self.sums[-2] += norm
        self.sums[-1] += 1

    def clear(self) -> None:
        """Begin anew, after a log line."""
        self.sums.zero_()

    def figures(self) -> dict[str, Any]:
        """For the log: means over the steps since the last line."""
        means = (self.sums[:-1] / self.sums[-1]).tolist()
        return dict(zip((*PARTS, "grad_norm"), means, strict=True))


def loss_of(vector: Tensor) -> float:
    """The step's loss, mean over the global batch."""
    return float(vector[_LOSS])


def waited(vector: Tensor) -> float:
    """Seconds waited for data, mean over the ranks."""
    return float(vector[_WAIT])


def wants_stop(vector: Tensor) -> bool:
    """Whether any rank was asked to stop."""
    return bool(vector[_STOP] > 0)


def is_bad(vector: Tensor) -> bool:
    """Whether a loss of any rank was NaN or infinite."""
    return bool(vector[_BAD] > 0)
