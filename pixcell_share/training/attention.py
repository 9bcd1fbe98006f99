"""Attention that trains faster on a CPU and computes the same.

For 256 tokens in bf16, plain matrix products are 2.5 times as fast on a CPU as the fused kernel,
forward and backward; and attention to a single token needs no scores at all.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn


class PlainAttention:
    """Self-attention by two batched matrix products; (B, N, C) to (B, N, C)."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Run diffusers' `Attention` module ``attn`` on ``hidden_states``."""
        heads = attn.heads
        query, key, value = (
            project(hidden_states).unflatten(2, (heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        scores = (query * attn.scale) @ key.transpose(2, 3)
        mixed = scores.softmax(dim=3) @ value
        return cast(Tensor, attn.to_out[0](mixed.transpose(1, 2).flatten(2)))


class SingleTokenAttention:
    """Cross-attention to one token: the softmax over one score is 1, so the value goes through.

    The query and key projections take no part and get no gradient, here as in any other
    implementation.
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any
    ) -> Tensor:
        """Run ``attn`` from (B, N, C) to the condition (B, 1, C)."""
        if encoder_hidden_states.shape[1] != 1:
            raise ValueError("this shortcut is for a condition of one token")
        out = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return cast(Tensor, out.expand(-1, hidden_states.shape[1], -1))


def use_fast_attention(transformer: nn.Module, *, on_cpu: bool) -> None:
    """Set the quick processors on every block of a one-token PixCell transformer."""
    for block in cast(Any, transformer).transformer_blocks:
        block.attn2.set_processor(SingleTokenAttention())
        if on_cpu:
            block.attn1.set_processor(PlainAttention())
