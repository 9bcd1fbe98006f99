"""A LoRA as it travels: plain float32 arrays, and what may be wrong with one that came."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pixcell_share.files import canonical_json
from pixcell_share.training.private.settings import TrainingSettings

Adapter = Mapping[str, NDArray[np.float32]]
"""The LoRA's matrices, ``LAYER.lora_A.weight`` (rank, I) and ``LAYER.lora_B.weight`` (O, rank)."""

_BETAS = (0.9, 0.999)


class UpdateFault(StrEnum):
    """Why an update is not taken. A code never changes its meaning."""

    NAMES = "update_names"
    """Matrices are missing, or there are others."""
    DTYPE = "update_dtype"
    """A matrix is not of float32."""
    SHAPE = "update_shape"
    """A matrix has another shape."""
    NOT_FINITE = "update_not_finite"
    """A number is NaN or infinite."""
    TOO_LARGE = "update_too_large"
    """It lies further from its start than training can take it."""


def check_update(update: Adapter, start: Adapter, largest: float) -> UpdateFault | None:
    """What is wrong with an update; None if nothing is.

    Args:
        update: as it came.
        start: what it was trained from: names and shapes have to be the same.
        largest: L2 norm of the difference that is let through, see `largest_change`.
    """
    if set(update) != set(start):
        return UpdateFault.NAMES
    for name, value in update.items():
        if value.dtype != np.float32:
            return UpdateFault.DTYPE
        if value.shape != start[name].shape:
            return UpdateFault.SHAPE
        if not np.isfinite(value).all():
            return UpdateFault.NOT_FINITE
    return None if change(update, start) <= largest else UpdateFault.TOO_LARGE


def change(update: Adapter, start: Adapter) -> float:
    """L2 norm of an update's difference from its start."""
    parts = (np.square(v.astype(np.float64) - start[n]).sum() for n, v in update.items())
    return math.sqrt(math.fsum(map(float, parts)))


def largest_change(start: Adapter, training: TrainingSettings, steps: int) -> float:
    """The largest `change` that ``steps`` steps of AdamW can make, from fresh averages on.

    A step's decay moves a weight by at most the rate times the decay times the weight.
    """
    numbers = sum(value.size for value in start.values())
    travelled = training.rate * _most_moved(steps) * math.sqrt(numbers)
    norm = math.sqrt(math.fsum(float(np.square(v, dtype=np.float64).sum()) for v in start.values()))
    decayed = training.rate * training.weight_decay * steps * (norm + travelled)
    return (travelled + decayed) * (1 + 1e-3)


def _most_moved(steps: int) -> float:
    """How far so many steps of Adam move a number at most, in units of the rate.

    A step moves it by sum(w g) / sqrt(sum(u g^2)), with w and u the weights of the gradients g in
    the two averages. By Cauchy and Schwarz that is at most sqrt(sum(w^2 / u)): 1 in the first step,
    7.3 in the end, which gradients that grow by a ninth in each step reach.
    """
    first, second = _BETAS
    step = np.arange(1, steps + 1, dtype=np.float64)
    ratio = first**2 / second
    sums = (1 - first) ** 2 / (1 - second) * (1 - ratio**step) / (1 - ratio)
    return float((np.sqrt(sums * (1 - second**step)) / (1 - first**step)).sum())


def adapter_bytes(adapter: Adapter) -> int:
    """Bytes of an adapter's numbers."""
    return sum(value.nbytes for value in adapter.values())


def adapter_digest(adapter: Adapter) -> str:
    """SHA-256 over names, shapes and numbers, in the order of the names."""
    digest = hashlib.sha256()
    shapes = [[name, list(adapter[name].shape)] for name in sorted(adapter)]
    digest.update(canonical_json(shapes) + b"\0")
    for name in sorted(adapter):
        digest.update(np.ascontiguousarray(adapter[name], dtype="<f4").tobytes())
    return digest.hexdigest()


def weighted_mean(
    adapters: Sequence[Adapter], weights: Sequence[float]
) -> dict[str, NDArray[np.float32]]:
    """The mean of adapters: FedAvg (McMahan et al., AISTATS 2017). Summed in float64.

    Raises:
        ValueError: there is none, or a weight is not positive.
    """
    if not adapters or min(weights) <= 0:
        raise ValueError("a mean needs adapters with positive weights")
    total = math.fsum(weights)
    pairs = list(zip(adapters, weights, strict=True))
    return {
        name: np.asarray(
            sum(adapter[name].astype(np.float64) * (weight / total) for adapter, weight in pairs),
            dtype=np.float32,
        )
        for name in adapters[0]
    }
