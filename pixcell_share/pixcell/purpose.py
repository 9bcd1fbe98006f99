"""Which model weights were meant for, as far as their shapes and position tables tell."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel

_log = logging.getLogger(__name__)

NULL_KEY = "caption_projection.uncond_embedding"
PATCH_KEY = "pos_embed.proj.weight"
TOKEN_POSITIONS_KEY = "y_pos_embed.y_pos_embed"
_RESOLUTION_KEYS = "adaln_single.emb.resolution_embedder."
_REMEDY = "put the config.json and the weights of one and the same model together"

_TILE_LATENTS = 32
"""Latent pixels along one side of the 256 px tile that one released embedding describes."""
_RELEASED = (1152, 1536, 16)
"""Width, embedding channels and latent channels of the released models."""
_ROUNDING = 0.02
"""Position tables are sines and cosines; bfloat16 keeps them to 0.004."""


def settle_config(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config with the one null value settled that the weights themselves decide.

    ``use_additional_conditions: null`` means true at ``sample_size`` 128 (diffusers), but
    PixCell-1024 has no such inputs: what counts is whether the weights hold their layers.
    """
    settled = dict(config)
    if settled.get("use_additional_conditions") is None:
        present = any(key.startswith(_RESOLUTION_KEYS) for key in state)
        settled["use_additional_conditions"] = present
    return settled


def check_purpose(
    model: PixCellTransformer2DModel, state: Mapping[str, Tensor], folder: Path
) -> None:
    """Refuse weights that were meant for another model than the config describes.

    Args:
        model: as its config says, with its position tables filled.
        state: the weights.
        folder: where both came from, for the message.

    Raises:
        WeightsMismatchError: another token count, embedding dimension, latent channel count or
            resolution; says which model the weights were meant for.
    """
    null, patches = state.get(NULL_KEY), state.get(PATCH_KEY)
    if null is None or null.ndim != 2 or patches is None or patches.ndim != 4:
        return  # filling the model names the missing or misshapen key
    config = model.config
    found = (int(null.shape[0]), int(null.shape[1]), int(patches.shape[1]))
    wanted = (config.caption_num_tokens, config.caption_channels, config.in_channels)
    if found != wanted:
        raise WeightsMismatchError(
            f"the weights in {folder} were meant for {describe(*found)}; "
            f"their config.json says {describe(*wanted)}",
            _REMEDY,
        )
    _check_released_size(model, int(patches.shape[0]), folder)
    _check_token_positions(model, state.get(TOKEN_POSITIONS_KEY), folder)
    _warn_of_null_scale(model, folder)


def describe(tokens: int, channels: int, latent_channels: int) -> str:
    """A model's condition and latents in words, with the released model that they fit."""
    released = {(1, 1536, 16): " (PixCell-256)", (16, 1536, 16): " (PixCell-1024)"}
    name = released.get((tokens, channels, latent_channels), "")
    plural = "" if tokens == 1 else "s"
    return (
        f"a model with {tokens} embedding{plural} of {channels} channels an image "
        f"and {latent_channels} latent channels{name}"
    )


def _check_released_size(model: PixCellTransformer2DModel, width: int, folder: Path) -> None:
    """Weights of the released width have one embedding for each 256 px tile of the image."""
    config = model.config
    if (width, config.caption_channels, config.in_channels) != _RELEASED:
        return
    meant = _TILE_LATENTS * math.isqrt(config.caption_num_tokens)
    if config.sample_size != meant:
        raise WeightsMismatchError(
            f"the weights in {folder} were meant for images of {meant * 8} px "
            f"(PixCell-{meant * 8}, sample_size {meant}); their config.json says sample_size "
            f"{config.sample_size}",
            _REMEDY,
        )


def _check_token_positions(
    model: PixCellTransformer2DModel, stored: Tensor | None, folder: Path
) -> None:
    """The stored positions of the condition tokens tell for which resolution they were made."""
    if stored is None or model.y_pos_embed is None:
        return
    computed = model.y_pos_embed.y_pos_embed
    if stored.shape != computed.shape:
        return  # filling the model names the misshapen key
    if torch.allclose(stored.float(), computed.float(), rtol=0, atol=_ROUNDING):
        return
    config = model.config
    says = config.sample_size / config.patch_size / model.interpolation_scale
    raise WeightsMismatchError(
        f"the weights in {folder} were meant for another resolution: the positions of their "
        f"condition tokens span {_span(stored):.4g} units, those of their config.json {says:.4g} "
        f"(sample_size {config.sample_size}, interpolation_scale {model.interpolation_scale:g}; "
        "PixCell-1024 has 32)",
        _REMEDY,
    )


def _span(table: Tensor) -> float:
    """The side of the image in units of position, read back from a table of token positions.

    Of the first token's vector ``[sin(x w), cos(x w), ...]`` the slowest frequency that still
    changes gives ``x``, the centre of the first tile; the side is ``2 x`` times the tiles.
    """
    first = table[0, 0].double()
    quarter = len(first) // 4
    index = quarter // 2
    frequency = 10000.0 ** (-index / quarter)
    x = math.atan2(first[index].item(), first[quarter + index].item()) / frequency
    return float(2 * x * math.isqrt(table.shape[1]))


def _warn_of_null_scale(model: PixCellTransformer2DModel, folder: Path) -> None:
    config = model.config
    trained = config.sample_size / 64  # the paper's 0.5, 1 and 2 at 256, 512 and 1024 px
    if config.interpolation_scale is None and model.interpolation_scale != trained:
        _log.warning(
            "%s: interpolation_scale is null, which diffusers reads as %g; PixCell models of this "
            "size were trained with %g. If the pictures look wrong, write %g into config.json",
            folder, model.interpolation_scale, trained, trained,
        )  # fmt: skip
