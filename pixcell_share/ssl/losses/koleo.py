"""The Kozachenko-Leonenko regulariser: embeddings keep apart (Sablayrolles et al., 1806.03198).

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/loss/koleo_loss.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-8


def koleo_loss(embeddings: Tensor) -> Tensor:
    """``-mean log`` of each embedding's distance to its nearest neighbour, on the unit sphere.

    In float32 also under autocast. Equal embeddings give a large loss with a finite gradient.

    Args:
        embeddings: (B, D): class tokens of one crop of each image.

    Returns:
        Scalar; 0 for fewer than two embeddings, which have no neighbour.
    """
    if len(embeddings) < 2:
        return embeddings.float().sum() * 0
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = F.normalize(embeddings.float(), dim=-1, eps=_EPS)
        with torch.no_grad():
            likeness = (unit @ unit.T).fill_diagonal_(-2)
            nearest = likeness.argmax(dim=1)
        distance = F.pairwise_distance(unit, unit[nearest], eps=_EPS)
        return -torch.log(distance + _EPS).mean()
