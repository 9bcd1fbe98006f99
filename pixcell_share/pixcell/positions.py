"""The sin-cos tables that tell a PixCell transformer where a patch or a condition token lies.

Both tables use one coordinate system: latent patch *i* of a side lies at
``i / interpolation_scale`` (PixArt's table, Peebles & Xie, arXiv:2212.09748), and the condition
token of a 256 px tile lies at the centre of the patches that it describes.
"""

from __future__ import annotations

import math

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_2d_sincos_pos_embed_from_grid
from torch import Tensor, nn


def patch_table(dim: int, side: int, interpolation_scale: float) -> Tensor:
    """Positions of ``side * side`` latent patches, row-major.

    Returns:
        float32 ``(1, side * side, dim)``: what diffusers' ``PatchEmbed`` adds to its patches.
    """
    table: Tensor = get_2d_sincos_pos_embed(
        dim,
        side,
        base_size=side,
        interpolation_scale=interpolation_scale,
        device=torch.device("cpu"),
        output_type="pt",
    )
    return table.float().unsqueeze(0)


def token_table(dim: int, tokens: int, side: int, interpolation_scale: float) -> Tensor:
    """Positions of ``tokens`` condition tokens, a square row-major grid over the image.

    PixCell-1024 has 16 tokens over 64 patches a side at scale 2, so its coordinates are
    4, 12, 20 and 28. Token ``k = 4 * row + col`` holds the column's sines and cosines, then the
    row's.

    Args:
        dim: channels of an embedding; divisible by 4.
        tokens: condition tokens of an image; a square number.
        side: latent patches along one side of the image.
        interpolation_scale: patches per unit of position.

    Returns:
        float32 ``(1, tokens, dim)``.

    Raises:
        ValueError: ``tokens`` is no square number, or ``dim`` is not divisible by 4.
    """
    rows = math.isqrt(tokens)
    if rows * rows != tokens:
        raise ValueError(f"caption_num_tokens must be a square number, not {tokens}")
    if dim % 4:
        raise ValueError(f"caption_channels must be divisible by 4, not {dim}")
    step = side / rows / interpolation_scale
    centres = torch.arange(rows, dtype=torch.float32, device="cpu") * step + step / 2
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))
    grid = grid.reshape(2, 1, rows, rows)
    table: Tensor = get_2d_sincos_pos_embed_from_grid(dim, grid, output_type="pt")
    return table.float().unsqueeze(0)


class TokenPositions(nn.Module):
    """Adds `token_table` to the condition tokens (the key ``y_pos_embed.y_pos_embed``)."""

    y_pos_embed: Tensor

    def __init__(self, dim: int, tokens: int, side: int, interpolation_scale: float) -> None:
        super().__init__()
        table = token_table(dim, tokens, side, interpolation_scale)
        # The ambient device decides, so that a model built on `meta` holds no memory.
        self.register_buffer("y_pos_embed", table.to(torch.get_default_device()))

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(B, T, D)`` embeddings with their positions added."""
        return embeddings + self.y_pos_embed.to(embeddings.dtype)
