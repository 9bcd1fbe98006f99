"""Cross-entropy between the teacher's assignments and the student's logits."""

from __future__ import annotations

import torch
from torch import Tensor

STUDENT_TEMPERATURE = 0.1
"""Of DINO, iBOT and DINOv2 alike."""


def cross_entropy(
    logits: Tensor, targets: Tensor, temperature: float = STUDENT_TEMPERATURE
) -> Tensor:
    """``-sum_k targets_k log softmax(logits / temperature)_k``, in float32.

    Written as ``mass * logsumexp(z) - targets · z``: no array of log probabilities is kept, which
    is the largest array of a step with 65,536 prototypes.

    Args:
        logits: (..., K) of the student.
        targets: (..., K), each row the sum of some distributions.
        temperature: of the student.

    Returns:
        (...).
    """
    scaled = logits.float() / temperature
    targets = targets.float()
    return targets.sum(-1) * torch.logsumexp(scaled, -1) - (targets * scaled).sum(-1)
