"""DINOv2's vision transformer, whose state dict is the one that ``torch.hub`` publishes.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/models/vision_transformer.py``; written anew
in plain torch. What is random (masks, stochastic depth) comes in from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixcell_share.ssl.architectures import Architecture
from pixcell_share.ssl.layers import NORM_EPS, Block, PatchEmbedding


@dataclass
class Tokens:
    """What a transformer gives for a batch, after its last norm."""

    of_class: Tensor
    """``(B, D)``"""
    of_patches: Tensor
    """``(B, N, D)``, row by row"""


class VisionTransformer(nn.Module):
    """A vision transformer of DINOv2's kind.

    Args:
        architecture: its sizes.
        layer_scale: start of the layer scales; training begins at 1e-5.
    """

    def __init__(self, architecture: Architecture, layer_scale: float = 1e-5) -> None:
        super().__init__()
        self.architecture = architecture
        width, grid = architecture.width, architecture.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        if architecture.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, architecture.registers, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchEmbedding(architecture.patch, width)
        self.blocks = nn.ModuleList(
            Block(
                width,
                architecture.heads,
                architecture.hidden,
                gated=architecture.gated,
                layer_scale=layer_scale,
            )
            for _ in range(architecture.depth)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.architecture.registers:
            nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of normalised images (B, 3, H, W): the class token."""
        return self.tokens(images).of_class

    def tokens(
        self, images: Tensor, masks: Tensor | None = None, kept: Tensor | None = None
    ) -> Tokens:
        """Class and patch tokens.

        Args:
            images: (B, 3, H, W), normalised; H and W are multiples of the patch.
            masks: (B, N) bool: patches in whose place the mask token stands.
            kept: (depth, 2, k) int64 for stochastic depth, as of `Block.forward`.
        """
        x = self._embed(images, masks)
        for number, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[number])
        x = self.norm(x)
        return Tokens(x[:, 0], x[:, 1 + self.architecture.registers :])

    def _embed(self, images: Tensor, masks: Tensor | None) -> Tensor:
        rows, columns = (side // self.architecture.patch for side in images.shape[2:])
        x = self.patch_embed(images)
        if masks is not None:
            x = torch.where(masks[:, :, None], self.mask_token.to(x.dtype), x)
        places = self.positions(rows, columns)
        first = (self.cls_token + places[:, :1]).expand(len(x), -1, -1)
        parts = [first.to(x.dtype), x + places[:, 1:].to(x.dtype)]
        if self.architecture.registers:
            parts.insert(1, self.register_tokens.expand(len(x), -1, -1).to(x.dtype))
        return torch.cat(parts, dim=1)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1, 1 + rows * columns, D) of a grid of patches."""
        grid = self.architecture.grid
        if (rows, columns) == (grid, grid):
            return self.pos_embed
        return resample_positions(
            self.pos_embed,
            rows,
            columns,
            antialias=self.architecture.antialias,
            offset=self.architecture.offset,
        )


def resample_positions(
    positions: Tensor, rows: int, columns: int, *, antialias: bool, offset: float
) -> Tensor:
    """Position embeddings for another grid, with the arithmetic of DINOv2's published models.

    Args:
        positions: (1, 1 + g², D): the class token's, then those of a square grid.
        rows: of the new grid.
        columns: of the new grid.
        antialias: smooth before making the grid smaller.
        offset: added to the new sides, which shifts the samples a little; 0 for none.
    """
    width, side = positions.shape[2], int((positions.shape[1] - 1) ** 0.5)
    places = positions[:, 1:].float().reshape(1, side, side, width).permute(0, 3, 1, 2)
    if offset:
        scale = ((rows + offset) / side, (columns + offset) / side)
        places = F.interpolate(places, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        places = F.interpolate(places, (rows, columns), mode="bicubic", antialias=antialias)
    places = places.permute(0, 2, 3, 1).reshape(1, rows * columns, width)
    return torch.cat([positions[:, :1].float(), places], dim=1).to(positions.dtype)
