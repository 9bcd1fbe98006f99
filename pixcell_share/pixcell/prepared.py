"""What a transformer computes from its conditions and time steps alone, done once for a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import CacheMixin
from diffusers.models.activations import GELU
from torch import Tensor, nn

from pixcell_share.pixcell.affine import affine, stacked
from pixcell_share.pixcell.blocks import BlockWeights, Cross, run_block, split_heads

Rows = slice | None
"""Which of the conditions; None: all."""


class PreparedBlock(nn.Module):
    """A block with its weights, its modulation of every step and its conditions at hand.

    A module of the run's own, so that the hooks of a block cache belong to this run alone. The
    weights are those of the model, but self-attention's query, key and value lie in one copy.

    Args:
        block: diffusers' ``BasicTransformerBlock``.
        modulation: ``(S, 6, D)`` of the model at S time steps.
        null: projected null condition ``(1, T, D)``, or None where no step is guided.
        condition: projected conditions ``(B, T, D)``.
        run: `run_block`, or the same compiled.
    """

    def __init__(
        self,
        block: nn.Module,
        modulation: Tensor,
        null: Tensor | None,
        condition: Tensor,
        run: Callable[..., Tensor] = run_block,
    ) -> None:
        super().__init__()
        constant = condition.shape[1] == 1
        self.weights = _weights(block, with_cross=not constant)
        self._modulation = _fold(block, modulation)
        prepare = _constant if constant else _keys_and_values
        self._null = None if null is None else prepare(block, null)
        self._condition = prepare(block, condition)
        self._whole: dict[bool, Cross] = {}
        self._run = run

    def forward(self, hidden_states: Tensor, step: int, rows: Rows, guided: bool) -> Tensor:
        """Tokens ``(b, N, D)`` to ``(b, N, D)``, or ``(2 b, N, D)`` where the branches part."""
        cross = self._cross(rows, guided)
        return self._run(hidden_states, self.weights, self._modulation[step], cross)

    def _cross(self, rows: Rows, guided: bool) -> Cross:
        if rows is not None:
            return self._select(rows, guided)
        if guided not in self._whole:
            self._whole[guided] = self._select(slice(None), guided)
        return self._whole[guided]

    def _select(self, rows: slice, guided: bool) -> Cross:
        chosen = Cross(*(None if part is None else part[rows] for part in self._condition))
        if not guided:
            return chosen
        assert self._null is not None
        return Cross(*map(_after_null, self._null, chosen))


class Stack(nn.Module, CacheMixin):  # type: ignore[misc]
    """The prepared blocks, named as diffusers' block caches look for them."""

    def __init__(self, blocks: list[PreparedBlock]) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(blocks)


def _weights(block: Any, *, with_cross: bool) -> BlockWeights:
    attention, cross, (first, _, second) = block.attn1, block.attn2, block.ff.net
    plain = type(first) is GELU
    return BlockWeights(
        heads=attention.heads,
        epsilon=block.norm1.eps,
        qkv=stacked([affine(layer) for layer in (attention.to_q, attention.to_k, attention.to_v)]),
        out=affine(attention.to_out[0]),
        expand=affine(first.proj) if plain else first,
        approximate=first.approximate if plain else "none",
        contract=affine(second),
        query=affine(cross.to_q) if with_cross else None,
        cross_out=affine(cross.to_out[0]) if with_cross else None,
    )


def _fold(block: Any, modulation: Tensor) -> Tensor:
    """``(S, 6, D)`` as the weight and bias of the norms, and the gates.

    ``norm(x) (1 + scale) + shift``, where the norm itself may have a weight and a bias.
    """
    table = block.scale_shift_table[None] + modulation
    folded = []
    for norm, (shift, scale, gate) in (
        (block.norm1, table[:, :3].unbind(1)),
        (block.norm2, table[:, 3:].unbind(1)),
    ):
        weight, bias = 1 + scale, shift
        if norm.weight is not None:
            weight, bias = norm.weight * weight, shift + norm.bias * weight
        folded += [weight, bias, gate]
    return torch.stack(folded, dim=1)


def _constant(block: Any, tokens: Tensor) -> Cross:
    """Cross-attention over one token: the softmax over one key is 1."""
    return Cross(constant=block.attn2.to_out[0](block.attn2.to_v(tokens)))


def _after_null(null: Tensor | None, part: Tensor | None) -> Tensor | None:
    """``(b, ...)`` behind as many copies of ``(1, ...)``."""
    if null is None or part is None:
        return None
    return torch.cat([null.expand_as(part), part])


def _keys_and_values(block: Any, tokens: Tensor) -> Cross:
    heads = block.attn2.heads
    return Cross(
        keys=split_heads(block.attn2.to_k(tokens), heads),
        values=split_heads(block.attn2.to_v(tokens), heads),
    )
