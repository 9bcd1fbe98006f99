"""What a step measures, summed over micro-batches, ranks and the steps between two log lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEVELS = 10
"""Noise levels told apart in the log: tenths of the time steps 0 to 999, low noise first."""
_TIMES = 1000
_STOP, _BAD, _WAIT, _LOSS, _SAMPLES, _SKIPPED = range(6)
_SUMS = slice(6, 6 + LEVELS)
_COUNTS = slice(6 + LEVELS, 6 + 2 * LEVELS)


class StepFigures:
    """One step on one rank; `vector` is what the ranks add up.

    Args:
        device: where the losses are: nothing is copied from it before the step's end.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.vector = torch.zeros(6 + 2 * LEVELS, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, share: Tensor, per_sample: Tensor, timesteps: Tensor, weights: Tensor) -> None:
        """Count one micro-batch.

        Args:
            share: its part of the step's loss, a scalar.
            per_sample: (b,) mean squared error of each sample.
            timesteps: (b,) int64.
            weights: (b,) 0 for samples that were left out.
        """
        kept = (weights > 0).double()
        values = torch.where(weights > 0, per_sample.double(), 0.0)
        level = torch.arange(LEVELS, device=timesteps.device)
        inside = (timesteps[:, None] * LEVELS // _TIMES == level).double()
        self.vector[_LOSS] += share.double()
        self.vector[_BAD] += (~torch.isfinite(share)).double() + (~torch.isfinite(values)).sum()
        self.vector[_SAMPLES] += kept.sum()
        self.vector[_SKIPPED] += len(kept) - kept.sum()
        # A product, not a scatter: its order is fixed on a GPU too.
        self.vector[_SUMS] += torch.where(inside > 0, values[:, None], 0.0).sum(0)
        self.vector[_COUNTS] += (inside * kept[:, None]).sum(0)

    def note(self, *, stop: bool, waited: float, world: int) -> Tensor:
        """The vector to add up, with this rank's wish to stop and seconds waited for data."""
        self.vector[_STOP] = float(stop)
        self.vector[_WAIT] = waited / world
        self.vector[_LOSS] /= world
        return self.vector


class Meter:
    """Sums since the last log line; kept in checkpoints, so that a resumed run logs the same.

    Attributes:
        sums: float64, the steps' vectors added up, then gradient norms and steps.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(6 + 2 * LEVELS + 2, dtype=torch.float64)

    def add(self, vector: Tensor, norm: float) -> None:
        """Count one step, whose vector the ranks have added up."""
        self.sums[:-2] += vector
        self.sums[-2] += norm
        self.sums[-1] += 1

    def clear(self) -> None:
        """Begin anew, after a log line."""
        self.sums.zero_()

    def figures(self) -> dict[str, Any]:
        """For the log: means over the steps since the last line."""
        steps = float(self.sums[-1])
        pairs = zip(self.sums[_SUMS].tolist(), self.sums[_COUNTS].tolist(), strict=True)
        return {
            "loss": float(self.sums[_LOSS]) / steps,
            "loss_by_noise": [total / count if count else None for total, count in pairs],
            "grad_norm": float(self.sums[-2]) / steps,
            "images": int(self.sums[_SAMPLES]),
            "left_out": int(self.sums[_SKIPPED]),
        }


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
    return not bool(vector[_BAD] == 0)
