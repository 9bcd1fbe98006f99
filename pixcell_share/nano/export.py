"""Write the shipped folders: fp16 safetensors and configs that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pixcell_share.files import atomic_write_bytes
from pixcell_share.nano.encoder import INPUT_PX, MEAN, STD, EncoderSettings
from pixcell_share.pixcell.folders import NANO
from pixcell_share.pixcell.load import load_scheduler, load_transformer
from pixcell_share.pixcell.save import save_generator


def export_parts(
    folder: Path, *, vae: Any, encoder: nn.Module, encoder_settings: EncoderSettings
) -> None:
    """Write ``vae/`` and ``encoder/``: what ``pixcell-train latents`` needs.

    Args:
        folder: the folder to fill; files of an earlier export are replaced one by one.
        vae: with its ``scaling_factor`` and ``shift_factor`` in the config.
        encoder: the ViT without a head.
        encoder_settings: what it was built with.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    name = "diffusion_pytorch_model.safetensors"
    atomic_write_bytes(folder / "vae" / name, _fp16(vae.state_dict()))
    _write_json(folder / "vae" / "config.json", json.loads(vae.to_json_string()))
    atomic_write_bytes(folder / "encoder" / "model.safetensors", _fp16(encoder.state_dict()))
    _write_json(folder / "encoder" / "config.json", encoder_config(encoder_settings))


def export_generator(
    folder: Path, generator: Path, guidance_scale: float, *, vae: Any = None
) -> None:
    """Write ``transformer/``, ``scheduler/``, ``model_index.json``, and ``vae/`` if it is given.

    Args:
        folder: the folder to fill.
        generator: the ``model/`` folder that ``pixcell-train run`` left.
        guidance_scale: the guidance that the evaluation found best.
        vae: as of `export_parts`; None: the index names the packaged nano's.

    Raises:
        WeightsError: the generator's folder lacks a part.
        StorageError: the disk is full, or the folder cannot be written.
    """
    save_generator(
        folder,
        load_transformer(generator / "transformer"),
        load_scheduler(generator / "scheduler"),
        vae=vae,
        vae_source=None if vae is not None else NANO,
        guidance_scale=guidance_scale,
        dtype=torch.float16,
    )


def size_of(folder: Path) -> int:
    """Size of all weights under ``folder`` in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def encoder_config(settings: EncoderSettings) -> dict[str, Any]:
    """How `pixcell_share.encoders.nano` builds the encoder and prepares its input."""
    return {
        "architecture": settings.architecture,
        "kwargs": {"num_classes": 0, **settings.model_args()},
        "dim": settings.dim,
        "input_px": INPUT_PX,
        "interpolation": "bicubic",
        "mean": list(MEAN),
        "std": list(STD),
        "licence": "Apache-2.0",
        "noncommercial": False,
    }


def _fp16(state: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes; half precision throughout."""
    half = {name: value.detach().cpu().half().contiguous() for name, value in state.items()}
    unsafe = [name for name, value in half.items() if not bool(torch.isfinite(value).all())]
    if unsafe:
        raise ValueError(f"not finite in fp16: {', '.join(unsafe)}")
    return save(half, metadata={"format": "pt"})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    atomic_write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
