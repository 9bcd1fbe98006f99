"""A generator and an encoder with random weights: the real classes, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from safetensors.torch import save_file

from pixcell_share.pixcell import PixCellTransformer2DModel

DIM = 24


def make_tiny_model(
    folder: Path,
    *,
    tile_px: int = 256,
    tokens: int = 1,
    dim: int = DIM,
    input_px: int = 224,
    depth: int = 1,
) -> Path:
    """A folder as `PixCell.from_pretrained` reads it, with ``encoder/`` beside.

    Args:
        folder: where to, new or empty.
        tile_px: side of the tiles that it makes.
        tokens: embeddings of one tile.
        dim: length of an embedding.
        input_px: side of what the encoder sees, at least 32.
        depth: of the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        PixCellTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            sample_size=tile_px // 8,
            interpolation_scale=0.5,
            use_additional_conditions=False,
            caption_channels=dim,
            caption_num_tokens=tokens,
        ).save_pretrained(folder / "transformer")
        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            layers_per_block=1,
            norm_num_groups=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        ).save_pretrained(folder / "vae")
        DPMSolverMultistepScheduler().save_pretrained(folder / "scheduler")
        _save_encoder(folder / "encoder", dim, input_px, depth)
    return folder


def _save_encoder(folder: Path, dim: int, input_px: int, depth: int) -> None:
    folder.mkdir()
    arguments = {
        "img_size": input_px,
        "patch_size": 32,
        "embed_dim": dim,
        "depth": depth,
        "num_heads": 2,
        "num_classes": 0,
        "global_pool": "avg",
    }
    module = timm.models.vision_transformer.VisionTransformer(**arguments)
    save_file(module.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit",
        "kwargs": arguments,
        "dim": dim,
        "input_px": input_px,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "licence": "Apache-2.0",
    }
    (folder / "config.json").write_text(json.dumps(config))
