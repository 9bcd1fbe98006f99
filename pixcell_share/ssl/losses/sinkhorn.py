"""Targets by Sinkhorn-Knopp: prototypes are used equally (Caron et al., arXiv:2006.09882).

After facebookresearch/dinov2 (Apache-2.0), ``sinkhorn_knopp_teacher``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ITERATIONS = 3
_TINY = torch.finfo(torch.float32).tiny
"""A prototype that nothing is near to divides by this, not by 0."""


@torch.no_grad()
def sinkhorn_knopp(
    logits: Tensor,
    temperature: float,
    add_up: Callable[[Tensor], Tensor] = lambda values: values,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Distributions whose sum over the batch is nearly the same for every prototype.

    Rows are normalised last, so each of them is a distribution. The largest logit of the batch is
    taken off before the exponential, which changes no result and cannot overflow.

    Args:
        logits: (N, K) of the teacher, this rank's share; N may be 0 on a rank.
        temperature: of the teacher.
        add_up: the sum of a tensor over the ranks.
        iterations: of the two normalisations.

    Returns:
        (N, K) float32.
    """
    scaled = logits.float() / temperature
    weights = torch.exp(scaled - _highest(scaled, add_up))
    for _ in range(iterations):
        # Sums to one over each prototype, then over each row: the factors K and N cancel.
        weights = weights / add_up(weights.sum(0)).clamp(min=_TINY)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=_TINY)
    return weights


def _highest(scaled: Tensor, add_up: Callable[[Tensor], Tensor]) -> Tensor:
    """One number for all ranks, near the largest logits: the mean of the ranks' maxima."""
    if not scaled.numel():
        note = scaled.new_zeros(2)
    else:
        note = torch.stack([scaled.max(), scaled.new_ones(())])
    note = add_up(note)
    return note[0] / note[1].clamp(min=1)
