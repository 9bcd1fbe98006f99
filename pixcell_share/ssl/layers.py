"""The parts of DINOv2's vision transformer, with the names of its published state dicts.

After facebookresearch/dinov2 (Apache-2.0), ``dinov2/layers``; written anew in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6
"""Of every layer norm, as DINOv2 has it."""


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) to patch tokens (B, H/p * W/p, D)."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens row by row."""
        tokens: Tensor = self.proj(images)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention over tokens (B, N, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) to (B, N, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class Mlp(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) to (..., D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class SwiGlu(nn.Module):
    """Gated feed-forward of ViT-g (Shazeer, arXiv:2002.05202); two thirds as wide, in eights."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        hidden = swiglu_width(hidden)
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D) to (..., D)."""
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


def swiglu_width(hidden: int) -> int:
    """Rows of each half of a `SwiGlu` that replaces an `Mlp` with ``hidden`` rows."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


class LayerScale(nn.Module):
    """A factor for each channel (Touvron et al., arXiv:2103.17239)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., D), scaled."""
        return tokens * self.gamma


class Block(nn.Module):
    """A transformer block with pre-norm.

    Args:
        width: channels of a token.
        heads: of the attention.
        hidden: rows of the feed-forward layer.
        gated: `SwiGlu` in place of `Mlp`.
        layer_scale: start of both `LayerScale`.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, gated: bool, layer_scale: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp: nn.Module = SwiGlu(width, hidden) if gated else Mlp(width, hidden)
        self.ls2 = LayerScale(width, layer_scale)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """One block.

        Args:
            tokens: (B, N, D).
            kept: (2, k) int64: rows of the batch for which the attention, and the feed-forward
                layer, are computed in this step; None: all. See `residual`.
        """
        first, second = (None, None) if kept is None else (kept[0], kept[1])
        tokens = residual(tokens, lambda x: self.ls1(self.attn(self.norm1(x))), first)
        return residual(tokens, lambda x: self.ls2(self.mlp(self.norm2(x))), second)


def residual(tokens: Tensor, branch: Callable[[Tensor], Tensor], kept: Tensor | None) -> Tensor:
    """``tokens + branch(tokens)``, with stochastic depth (Huang et al., arXiv:1603.09382).

    As in DINOv2 the branch is not multiplied by zero but left out: it runs for the rows ``kept``
    (k,) alone, and counts ``B / k`` there, so its mean stays the same and a share is not computed.
    """
    if kept is None:
        return tokens + branch(tokens)
    change = branch(tokens[kept])
    scale = len(tokens) / len(kept)
    return tokens.index_add(0, kept, change.to(tokens.dtype), alpha=scale)
