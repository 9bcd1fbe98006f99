"""Small generators with random weights, of the real classes and in the real layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler

from pixcell_share.pixcell import LatentCodec, PixCell, PixCellTransformer2DModel

SMALL: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "sample_size": 8,
    "interpolation_scale": 0.5,
    "use_additional_conditions": False,
    "caption_channels": 24,
}


def build_transformer(**changes: Any) -> PixCellTransformer2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return PixCellTransformer2DModel(**{**SMALL, **changes}).eval()


def build_vae(**changes: Any) -> Any:
    config: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 16,
        "norm_num_groups": 4,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return AutoencoderKL(**{**config, **changes}).eval()


def build_folder(root: Path, *, vae: bool = True, scheduler: Any = None, **changes: Any) -> Path:
    build_transformer(**changes).save_pretrained(root / "transformer")
    (scheduler or DPMSolverMultistepScheduler()).save_pretrained(root / "scheduler")
    if vae:
        build_vae().save_pretrained(root / "vae")
    return root


@pytest.fixture(scope="session")
def make_transformer() -> Callable[..., PixCellTransformer2DModel]:
    return build_transformer


@pytest.fixture(scope="session")
def make_vae() -> Callable[..., Any]:
    return build_vae


@pytest.fixture(scope="session")
def make_folder() -> Callable[..., Path]:
    return build_folder


@pytest.fixture
def make_pixcell() -> Callable[..., PixCell]:
    def build(guidance_scale: float | None = None, **changes: Any) -> PixCell:
        return PixCell(
            build_transformer(**changes),
            LatentCodec(build_vae()),
            DPMSolverMultistepScheduler(),
            guidance_scale=guidance_scale,
        )

    return build
