"""What a step is given: crops, masks and everything else that is random, already drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class CropBatch:
    """The crops of ``b`` tiles, all tensors on one device."""

    globals: Tensor
    """``(2, b, 3, S, S)`` uint8: the first global crop of every tile, then the second."""
    locals: Tensor
    """``(L, b, 3, s, s)`` uint8."""
    masks: Tensor
    """``(2 b, N)`` bool: patches of the global crops that the student does not see."""
    masked: Tensor
    """``(M,)`` int64: their places among the ``2 b N`` patches."""
    weights: Tensor
    """``(M,)`` float32: one over the number of masked patches in the patch's crop."""
    global_kept: Tensor | None
    """``(depth, 2, k)`` int64 for stochastic depth, of the global crops; None: all are kept."""
    local_kept: Tensor | None
    """``(depth, 2, l)`` int64, of the local crops."""
    positions: Tensor
    """``(b,)`` int64: positions in the order of training."""

    def __len__(self) -> int:
        return len(self.positions)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> CropBatch:
        """The batch with every tensor changed."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = None if value is None else change(value)
        return CropBatch(**changed)


def masked_places(masks: Tensor) -> tuple[Tensor, Tensor]:
    """``masked`` and ``weights`` of masks (C, N)."""
    masked = masks.flatten().nonzero().flatten()
    weights = 1 / masks.sum(1).clamp(min=1).float()
    return masked, weights[torch.div(masked, masks.shape[1], rounding_mode="floor")]
