"""FLOPs of a PixCell transformer for one image: the base of every MFU.

Counted are the matrix products, two FLOPs (a multiplication and an addition) for each pair of
numbers, as is usual for MFU (Chowdhery et al., arXiv:2204.02311, appendix B). Gradients with
respect to inputs and to weights cost as much as the product itself; what is computed a second
time (recomputed blocks, the scores in flash attention's backward pass) does not count. A test
compares all of it with torch's own counter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pixcell_share.errors import SettingsError

Of = Literal["latents", "condition", "time"]
_TIME_CHANNELS = 256
"""Sinusoids of a time step in diffusers' ``AdaLayerNormSingle``."""
_GATED = ("geglu", "swiglu")


@dataclass(frozen=True)
class ModelSize:
    """The sizes that the FLOPs depend on."""

    width: int
    """Channels of a patch inside the model."""
    layers: int
    """Transformer blocks."""
    patches: int
    """Patches of an image."""
    tokens: int
    """Condition tokens of an image."""
    embedding_dim: int
    """Channels of an embedding."""
    patch_in: int
    """Numbers of a patch at the input."""
    patch_out: int
    """Numbers of a patch at the output."""
    feed_forward: int
    """Rows of the two feed-forward matrices together, in units of the width."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelSize:
        """The sizes of a transformer's config.

        Raises:
            SettingsError: a key is missing.
        """
        try:
            inputs, area = config["in_channels"], config["patch_size"] ** 2
            return cls(
                width=config["num_attention_heads"] * config["attention_head_dim"],
                layers=config["num_layers"],
                patches=config["sample_size"] ** 2 // area,
                tokens=config["caption_num_tokens"],
                embedding_dim=config["caption_channels"],
                patch_in=inputs * area,
                patch_out=(config.get("out_channels") or inputs) * area,
                feed_forward=12 if config.get("activation_fn") in _GATED else 8,
            )
        except KeyError as error:
            raise SettingsError(
                f"the config has no {error.args[0]}", "name the config.json of a PixCell model"
            ) from error


@dataclass(frozen=True)
class Product:
    """One matrix product, or some alike."""

    name: str
    flops: int
    """Of one image and forward pass."""
    of: Of = "latents"
    """What it depends on: the sampler needs the rest once per image, or once per run."""
    gradients: int = 2
    """Products of the same size on the way back when everything is trained."""
    lora: int = 1
    """The same when a LoRA alone is trained: a frozen weight needs no gradient of its own."""


def products(
    config: Mapping[str, Any], *, shortcut: bool = False, lora_rank: int = 0
) -> list[Product]:
    """The matrix products of one image's forward pass.

    Args:
        config: of the transformer.
        shortcut: with one condition token, leave out what has no effect on it: the
            cross-attention is ``to_out(to_v(token))``, the same for all patches.
        lora_rank: of a LoRA on the cross-attention; 0 for none.
    """
    size = ModelSize.of(config)
    found = list(_around(size))
    for block in range(size.layers):
        found += _self_attention(size, first=block == 0)
        found += _cross_attention(size, lora_rank, shortcut and size.tokens == 1, first=block == 0)
        feed_forward = 2 * size.feed_forward * size.patches * size.width**2
        found.append(Product("feed-forward", feed_forward))
    return found


def forward_flops(config: Mapping[str, Any], *, shortcut: bool = False, lora_rank: int = 0) -> int:
    """FLOPs of one image's forward pass; arguments as of `products`."""
    return sum(each.flops for each in products(config, shortcut=shortcut, lora_rank=lora_rank))


def training_flops(config: Mapping[str, Any], *, shortcut: bool = False, lora_rank: int = 0) -> int:
    """FLOPs of one image in a training step, forward and backward.

    Args:
        config: of the transformer.
        shortcut: as of `products`.
        lora_rank: above 0, a LoRA on the cross-attention alone is trained.
    """
    total = 0
    for each in products(config, shortcut=shortcut, lora_rank=lora_rank):
        total += each.flops * (1 + (each.lora if lora_rank else each.gradients))
    return total


def sampling_flops(
    config: Mapping[str, Any], steps: int, *, guided: bool = True, saving: bool = False
) -> int:
    """FLOPs of denoising one image, without the VAE.

    Args:
        config: of the transformer.
        steps: of the solver.
        guided: with classifier-free guidance: two passes a step.
        saving: what does not change is computed once: of the condition once per image, of the
            null embedding and the time steps once per run (not counted).
    """
    passes = steps * (2 if guided else 1)
    if not saving:
        return passes * forward_flops(config)
    parts = products(config, shortcut=True)
    each_pass = sum(part.flops for part in parts if part.of == "latents")
    once = sum(part.flops for part in parts if part.of == "condition")
    return passes * each_pass + once


def _around(size: ModelSize) -> Iterator[Product]:
    """What is outside the blocks; the model's inputs need no gradients."""
    d, n, t = size.width, size.patches, size.tokens
    yield Product("patches", 2 * n * size.patch_in * d, gradients=1, lora=0)
    yield Product("time in", 2 * _TIME_CHANNELS * d, "time", gradients=1, lora=0)
    yield Product("time out", 2 * d * d, "time", lora=0)
    yield Product("modulation", 2 * 6 * d * d, "time", lora=0)
    yield Product("condition in", 2 * t * size.embedding_dim * d, "condition", gradients=1, lora=0)
    yield Product("condition out", 2 * t * d * d, "condition", lora=0)
    yield Product("output", 2 * n * d * size.patch_out)


def _self_attention(size: ModelSize, *, first: bool) -> list[Product]:
    """Before the ``first`` LoRA nothing needs a gradient."""
    d, n = size.width, size.patches
    return [
        Product("self-attention, projections", 4 * 2 * n * d * d, lora=0 if first else 1),
        Product("self-attention, scores", 2 * 2 * n * n * d, lora=0 if first else 2),
    ]


def _cross_attention(size: ModelSize, rank: int, shortcut: bool, *, first: bool) -> list[Product]:
    d, n, t = size.width, size.patches, size.tokens
    key = Product("cross-attention, key", 2 * t * d * d, "condition", lora=0)
    value = replace(key, name="cross-attention, value")
    if shortcut:
        out = Product("cross-attention, output", 2 * t * d * d, "condition")
        layers = [(value, t), (out, t)]
        return [value, out, *_lora_parts(layers, rank, d)]
    query = Product("cross-attention, query", 2 * n * d * d, lora=0 if first else 1)
    out = Product("cross-attention, output", 2 * n * d * d)
    scores = Product("cross-attention, scores", 2 * 2 * n * t * d, lora=2)
    layers = [(query, n), (key, t), (value, t), (out, n)]
    return [query, key, value, scores, out, *_lora_parts(layers, rank, d)]


def _lora_parts(layers: list[tuple[Product, int]], rank: int, width: int) -> Iterator[Product]:
    """The two matrices of each adapted layer; the first needs an input gradient as its layer."""
    for layer, rows in layers if rank else []:
        flops = 2 * rows * width * rank
        yield Product(f"{layer.name}, lora A", flops, layer.of, lora=1 + layer.lora)
        yield Product(f"{layer.name}, lora B", flops, layer.of, lora=2)


SD3_VAE: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""Sizes of the VAE that PixCell uses."""


def vae_decode_flops(sample_size: int, config: Mapping[str, Any] = SD3_VAE) -> int:
    """FLOPs of decoding one image, counted by torch on the ``meta`` device.

    Args:
        sample_size: latents along a side of the image.
        config: of an ``AutoencoderKL``.
    """
    import torch
    from diffusers import AutoencoderKL
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        vae = AutoencoderKL(**{k: v for k, v in config.items() if not k.startswith("_")})
        latents = torch.empty(1, config["latent_channels"], sample_size, sample_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae.decode(latents)
    return int(counter.get_total_flops())


def images_per_second(flops: float, peak: float | None, mfu: float) -> float:
    """The rate at which a device with ``peak`` FLOP/s reaches ``mfu``; NaN without a peak."""
    return math.nan if peak is None else mfu * peak / flops
