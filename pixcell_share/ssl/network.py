"""A backbone with its projection heads: student and teacher are one each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixcell_share.encoders.transform import IMAGENET_MEAN, IMAGENET_STD
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.batch import CropBatch
from pixcell_share.ssl.heads import ProjectionHead
from pixcell_share.ssl.settings import SslSettings
from pixcell_share.ssl.vit import VisionTransformer


class Views(NamedTuple):
    """What a network says of a batch of ``b`` tiles; a tuple, for the hooks of FSDP2."""

    class_tokens: Tensor
    """``(2, b, D)`` of the global crops"""
    global_logits: Tensor
    """``(2, b, K)``"""
    local_logits: Tensor
    """``(L, b, K)``; L is 0 for the teacher"""
    patch_logits: Tensor
    """``(M, K')`` of the patches that the student does not see"""


class Network(nn.Module):
    """A backbone with its heads.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: SslSettings) -> None:
        super().__init__()
        shape = architecture(settings.architecture)
        self.backbone = VisionTransformer(shape, settings.layer_scale)
        self.dino_head = ProjectionHead(shape.width, settings.dino_head)
        # Patches are many and not like classes, which beside them would be alike again.
        self._apart = settings.dino_head.standardised
        self.ibot_head: ProjectionHead | None = None
        if settings.ibot_head is not None:
            self.ibot_head = ProjectionHead(shape.width, settings.ibot_head)

    @property
    def transformer_blocks(self) -> nn.ModuleList:
        """What `spread` splits, and ``torch.compile`` compiles, block by block."""
        return self.backbone.blocks

    def forward(self, batch: CropBatch, *, student: bool) -> Views:
        """Look at a batch.

        Args:
            batch: on the network's device.
            student: the student sees masked global crops and the local crops, with stochastic
                depth; the teacher sees whole global crops alone.
        """
        big = normalised(batch.globals.flatten(0, 1))
        seen = (
            self.backbone.tokens(big, batch.masks, batch.global_kept)
            if student
            else self.backbone.tokens(big)
        )
        rows = [seen.of_class]
        if student and len(batch.locals):
            small = normalised(batch.locals.flatten(0, 1))
            rows.append(self.backbone.tokens(small, None, batch.local_kept).of_class)
        patches = seen.of_patches.flatten(0, 1).index_select(0, batch.masked)
        classes, hidden = self._heads(torch.cat(rows), patches)
        by_crop = classes.view(-1, len(batch), classes.shape[1])
        tokens = seen.of_class.reshape(2, len(batch), -1)
        return Views(tokens, by_crop[:2], by_crop[2:], hidden)

    def _heads(self, classes: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        if self.ibot_head is not None or self._apart:
            return self.dino_head(classes), (self.ibot_head or self.dino_head)(patches)
        # One head: one product for both.
        logits: Tensor = self.dino_head(torch.cat([classes, patches]))
        return logits[: len(classes)], logits[len(classes) :]


def normalised(images: Tensor) -> Tensor:
    """Images uint8 (B, 3, H, W) as float32 with ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / deviation
