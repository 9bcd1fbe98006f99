"""Write a trained encoder in the forms that others read.

``model.safetensors`` and ``model.pth`` hold the state dict of DINOv2's class; ``timm/`` the same
weights for timm, described as `pixcell_share.encoders` reads it. Both give equal features: timm
resamples position embeddings in its own way, so they are written resampled for the training's
global crops, with DINOv2's arithmetic.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from pixcell_share.encoders.checkpoint import build_unfilled
from pixcell_share.encoders.timm_source import build_timm
from pixcell_share.encoders.transform import IMAGENET_MEAN, IMAGENET_STD
from pixcell_share.files import atomic_write_bytes, atomic_write_text
from pixcell_share.ssl.architectures import Architecture
from pixcell_share.ssl.vit import resample_positions

HUB_FILES = ("model.safetensors", "model.pth")
TIMM = "timm"


def write_weights(
    folder: Path,
    weights: Mapping[str, Tensor],
    shape: Architecture,
    input_px: int,
    terms: Mapping[str, Any],
) -> None:
    """Write the state dict twice, and the model for timm.

    Args:
        folder: to write to; files of an earlier export are replaced one by one.
        weights: state dict of the backbone.
        shape: its architecture.
        input_px: side of the image that the encoder will see.
        terms: ``name``, ``licence`` and ``noncommercial``, for the configuration.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    state = {name: value.detach().float().cpu().contiguous() for name, value in weights.items()}
    atomic_write_bytes(folder / HUB_FILES[0], save(state))
    pickled = io.BytesIO()
    torch.save(state, pickled)
    atomic_write_bytes(folder / HUB_FILES[1], pickled.getvalue())
    atomic_write_bytes(
        folder / TIMM / "model.safetensors", save(timm_state(state, shape, input_px))
    )
    config = {**timm_config(shape, input_px), **terms}
    atomic_write_text(folder / TIMM / "config.json", json.dumps(config, indent=2) + "\n")


def timm_config(shape: Architecture, input_px: int) -> dict[str, Any]:
    """What `pixcell_share.encoders.nano` reads: how timm builds the model, and its input."""
    kwargs: dict[str, Any] = {"img_size": input_px, "num_classes": 0}
    if shape.timm_name is None:
        kwargs |= {
            "patch_size": shape.patch,
            "embed_dim": shape.width,
            "depth": shape.depth,
            "num_heads": shape.heads,
            "init_values": 1e-5,
        }
    return {
        "architecture": shape.timm_name or "vit",
        "kwargs": kwargs,
        "dim": shape.width,
        "input_px": input_px,
        "interpolation": "bicubic",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
    }


def timm_state(
    state: Mapping[str, Tensor], shape: Architecture, input_px: int
) -> dict[str, Tensor]:
    """The state dict of the timm model for images of ``input_px``."""
    side = input_px // shape.patch
    resampled = dict(state)
    if side != shape.grid:
        resampled["pos_embed"] = resample_positions(
            state["pos_embed"], side, side, antialias=shape.antialias, offset=shape.offset
        )
    config = timm_config(shape, input_px)

    def build() -> nn.Module:
        return build_timm(config["architecture"], config["kwargs"])

    converted: dict[str, Tensor] = checkpoint_filter_fn(resampled, build_unfilled(build))
    return {name: value.contiguous() for name, value in converted.items()}
