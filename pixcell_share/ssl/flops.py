"""FLOPs of one tile in a training step: the base of the MFU.

Counted as `pixcell_share.training.flops` does: matrix products, two FLOPs for each pair of
numbers; the way back costs twice the way there. What stochastic depth leaves out does not count.
"""

from __future__ import annotations

from itertools import pairwise

from pixcell_share.ssl.architectures import Architecture, architecture
from pixcell_share.ssl.heads import HeadSettings
from pixcell_share.ssl.layers import swiglu_width
from pixcell_share.ssl.settings import SslSettings


def training_flops(settings: SslSettings) -> int:
    """FLOPs of one tile: the student forward and backward, the teacher forward."""
    shape, crops = architecture(settings.architecture), settings.crops
    kept = 1 - settings.drop_path
    big = 2 * backbone_flops(shape, crops.global_px)
    seen = 2 * backbone_flops(shape, crops.global_px, kept)
    seen += crops.locals * backbone_flops(shape, crops.local_px, kept)
    low, high = settings.masks.ratio
    patches = (crops.global_px // shape.patch) ** 2
    masked = 2 * patches * settings.masks.probability * (low + high) / 2
    head = head_flops(shape, settings.dino_head)
    hidden = masked * head_flops(shape, settings.ibot_head or settings.dino_head)
    student = seen + (2 + crops.locals) * head + hidden
    teacher = big + 2 * head + hidden
    return int(3 * student + teacher)


def backbone_flops(shape: Architecture, side: int, kept: float = 1.0) -> float:
    """One forward pass of an image of ``side`` px, with that share of the branches kept."""
    width, patches = shape.width, (side // shape.patch) ** 2
    tokens = 1 + shape.registers + patches
    mlp = 3 * swiglu_width(shape.hidden) if shape.gated else 2 * shape.hidden
    branches = 2 * tokens * width * (4 * width + mlp) + 4 * tokens**2 * width
    return 2 * patches * 3 * shape.patch**2 * width + kept * shape.depth * branches


def head_flops(shape: Architecture, head: HeadSettings) -> int:
    """One forward pass of one token."""
    sizes = [shape.width, *[head.hidden] * (head.layers - 1), head.bottleneck, head.prototypes]
    return sum(2 * a * b for a, b in pairwise(sizes))
