"""What the trainer's objective is given: one micro-batch, with everything random already drawn."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Batch:
    """``b`` samples of one stage, all tensors on one device."""

    latents: Tensor
    """``(b, C, s, s)`` float32, scaled: ``(z - shift) * scale``, cropped for the stage."""
    condition: Tensor
    """``(b, T, D)`` float32 embeddings, as the encoder gives them."""
    noise: Tensor
    """``(b, C, s, s)`` float32, standard normal."""
    timesteps: Tensor
    """``(b,)`` int64, 0 to 999."""
    dropped: Tensor
    """``(b,)`` bool: the condition is replaced by the model's null embedding."""
    weights: Tensor
    """``(b,)`` float32: 0 for rows left out as bad data, else 1."""
    positions: Tensor
    """``(b,)`` int64: position in the data order."""
