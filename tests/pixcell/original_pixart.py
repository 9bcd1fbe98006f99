"""An oracle for the converter: the original block layout in plain torch, on the original keys.

Written from the descriptions in PixArt-alpha (Chen et al., arXiv:2310.00426, section 2.3) and DiT
(Peebles & Xie, arXiv:2212.09748): one shared time projection, a table for each block, fused
query-key-value, fused key-value of the cross-attention, no norm before the cross-attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def sinusoid(t: Tensor, dim: int = 256) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    scores = split[0] @ split[1].transpose(-1, -2) / math.sqrt(split[0].shape[-1])
    return (scores.softmax(dim=-1) @ split[2]).transpose(1, 2).flatten(2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def block(state: State, name: str, x: Tensor, y: Tensor, time: Tensor, heads: int) -> Tensor:
    six = state[f"{name}.scale_shift_table"] + time.unflatten(-1, (6, -1))
    shift1, scale1, gate1, shift2, scale2, gate2 = six.split(1, dim=1)
    fused = linear(state, f"{name}.attn.qkv", modulate(x, shift1, scale1))
    own = attention(*fused.chunk(3, dim=-1), heads)
    x = x + gate1 * linear(state, f"{name}.attn.proj", own)
    keys, values = linear(state, f"{name}.cross_attn.kv_linear", y).chunk(2, dim=-1)
    other = attention(linear(state, f"{name}.cross_attn.q_linear", x), keys, values, heads)
    x = x + linear(state, f"{name}.cross_attn.proj", other)
    hidden = linear(state, f"{name}.mlp.fc1", modulate(x, shift2, scale2))
    hidden = F.gelu(hidden, approximate="tanh")
    return x + gate2 * linear(state, f"{name}.mlp.fc2", hidden)


def forward(state: State, latents: Tensor, embeddings: Tensor, t: Tensor, heads: int) -> Tensor:
    """Latents (B, C, H, W), embeddings (B, T, D), t (B,) to the output (B, out, H, W)."""
    weight = state["x_embedder.proj.weight"]
    patch = weight.shape[-1]
    grid = F.conv2d(latents, weight, state["x_embedder.proj.bias"], stride=patch)
    rows, cols = grid.shape[-2:]
    x = grid.flatten(2).transpose(1, 2) + state["pos_embed"]
    time = linear(state, "t_embedder.mlp.0", sinusoid(t))
    time = linear(state, "t_embedder.mlp.2", F.silu(time))
    shared = linear(state, "t_block.1", F.silu(time))
    y = embeddings + state.get("y_pos_embed", torch.zeros(()))
    y = F.gelu(linear(state, "y_embedder.y_proj.fc1", y), approximate="tanh")
    y = linear(state, "y_embedder.y_proj.fc2", y)
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    for index in range(depth):
        x = block(state, f"blocks.{index}", x, y, shared, heads)
    shift, scale = (state["final_layer.scale_shift_table"] + time[:, None]).split(1, dim=1)
    x = linear(state, "final_layer.linear", modulate(x, shift, scale))
    pixels = x.unflatten(1, (rows, cols)).unflatten(-1, (patch, patch, -1))
    return pixels.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
