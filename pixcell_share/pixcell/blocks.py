"""One transformer block as a function of tensors, for a condition that does not change.

It equals diffusers' ``BasicTransformerBlock`` with ``ada_norm_single``, with these savings:

- query, key and value of self-attention are one product;
- all images share the time step, so that scale and shift of the norm are its weight and bias;
- cross-attention over one token is a constant for each image, ``out(value(token))``, since a
  softmax over one key is 1; over several tokens, keys and values are given.

A function, and not a module, so that `torch.compile` compiles it once for all blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixcell_share.pixcell.affine import Affine, gelu_product, product


class BlockWeights(NamedTuple):
    """The weights of one block, D channels."""

    heads: int
    epsilon: float
    """Of both norms."""
    qkv: Affine
    """(3 D, D)."""
    out: Affine
    """(D, D), of self-attention."""
    expand: Affine | nn.Module
    """First half of the feed-forward: a layer that GELU follows, or a module with its own
    activation."""
    approximate: str
    """GELU's formula, ``tanh`` or ``none``."""
    contract: Affine
    """Second half of the feed-forward."""
    query: Affine | None = None
    """Of cross-attention over several tokens."""
    cross_out: Affine | None = None
    """Of cross-attention over several tokens."""


class Cross(NamedTuple):
    """What cross-attention takes from the conditions of B images (null and real ones)."""

    constant: Tensor | None = None
    """(B, 1, D): its whole output, where there is one token."""
    keys: Tensor | None = None
    """(B, heads, T, D / heads)."""
    values: Tensor | None = None
    """(B, heads, T, D / heads)."""


def run_block(tokens: Tensor, weights: BlockWeights, modulation: Tensor, cross: Cross) -> Tensor:
    """One block.

    Args:
        tokens: ``(b, N, D)``; fewer than the conditions where the branches of guidance are
            still equal: they part in the cross-attention.
        weights: of the block.
        modulation: ``(6, D)`` at this time step: norm weight, norm bias and gate of
            self-attention, then of the feed-forward.
        cross: conditions of ``B`` images, a multiple of ``b``.

    Returns:
        ``(B, N, D)``.
    """
    scale, shift, gate, scale_ff, shift_ff, gate_ff = modulation.unbind(0)
    width = tokens.shape[-1:]
    attended = _attend(F.layer_norm(tokens, width, scale, shift, weights.epsilon), weights)
    tokens = torch.addcmul(tokens, gate, attended)
    tokens = _cross(tokens, weights, cross)
    hidden = F.layer_norm(tokens, width, scale_ff, shift_ff, weights.epsilon)
    return torch.addcmul(tokens, gate_ff, _feed_forward(hidden, weights))


def split_heads(flat: Tensor, heads: int) -> Tensor:
    """``(B, N, D)`` to ``(B, heads, N, D / heads)``."""
    batch, count, width = flat.shape
    return flat.view(batch, count, heads, width // heads).transpose(1, 2)


def _attend(tokens: Tensor, weights: BlockWeights) -> Tensor:
    three = product(tokens, weights.qkv).chunk(3, dim=-1)
    query, key, value = (split_heads(part, weights.heads) for part in three)
    return _joined(F.scaled_dot_product_attention(query, key, value), weights.out)


def _cross(tokens: Tensor, weights: BlockWeights, cross: Cross) -> Tensor:
    if cross.constant is not None:
        copies = len(cross.constant) // len(tokens)
        added = cross.constant.view(copies, len(tokens), 1, -1) + tokens
        return added.flatten(0, 1)
    assert cross.keys is not None
    assert cross.values is not None
    assert weights.query is not None
    assert weights.cross_out is not None
    copies = len(cross.keys) // len(tokens)
    query = split_heads(product(tokens, weights.query), weights.heads)
    query, tokens = query.repeat(copies, 1, 1, 1), tokens.repeat(copies, 1, 1)
    attended = F.scaled_dot_product_attention(query, cross.keys, cross.values)
    return tokens + _joined(attended, weights.cross_out)


def _joined(attended: Tensor, out: Affine) -> Tensor:
    """``(B, heads, N, D / heads)`` through the output layer, ``(B, N, D)``."""
    return product(attended.transpose(1, 2).flatten(2), out)


def _feed_forward(tokens: Tensor, weights: BlockWeights) -> Tensor:
    if isinstance(weights.expand, nn.Module):
        hidden = weights.expand(tokens)
    else:
        hidden = gelu_product(tokens, weights.expand, weights.approximate)
    return product(hidden, weights.contract)
