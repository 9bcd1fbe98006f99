"""Write a generator as the folder that `PixCell.from_pretrained` and diffusers read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcell_share.errors import SettingsError
from pixcell_share.files import atomic_write_text
from pixcell_share.pixcell.folders import INDEX, NANO
from pixcell_share.pixcell.load import WEIGHTS
from pixcell_share.pixcell.tensors import write_tensors
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.weights import is_repo_id

_LOCAL_KEYS = ("_name_or_path",)
"""Config keys that would tell a path of this machine."""


def save_generator(
    folder: Path,
    transformer: PixCellTransformer2DModel,
    scheduler: Any,
    *,
    vae: Any = None,
    vae_source: str | None = None,
    guidance_scale: float | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write ``transformer/``, ``scheduler/``, perhaps ``vae/``, and ``model_index.json``.

    Each file is replaced in one step, the index last. Files that are not the generator's, such
    as ``encoder/`` or ``README.md``, stay.

    Args:
        folder: the folder to fill; made if it is not there.
        transformer: on any device; a LoRA has to be merged first.
        scheduler: a diffusers scheduler, of which the config counts.
        vae: the ``AutoencoderKL``, where the folder is to hold it.
        vae_source: else where it is found: ``nano`` or a repository id. A path is not written:
            it would say nothing on another machine.
        guidance_scale: what the model is best sampled with; None leaves the paper's.
        dtype: of the weight files; None writes each tensor as it is.

    Returns:
        ``folder``.

    Raises:
        SettingsError: the transformer has an adapter in it.
        StorageError: the disk is full, or the folder cannot be written.
    """
    state = transformer.state_dict()
    if any(".base_layer." in key for key in state):
        raise SettingsError("the transformer has a LoRA in it", "merge it with merge_lora first")
    _save_part(folder / "transformer", transformer, state, dtype)
    _write_json(folder / "scheduler" / "scheduler_config.json", _config(scheduler))
    index: dict[str, Any] = {
        "_class_name": "PixCellPipeline",
        "scheduler": ["diffusers", type(scheduler).__name__],
        "transformer": ["pixcell_share.pixcell", type(transformer).__name__],
    }
    if guidance_scale is not None:
        index["guidance_scale"] = guidance_scale
    if vae is not None:
        _save_part(folder / "vae", vae, vae.state_dict(), dtype)
        index["vae"] = ["diffusers", type(vae).__name__]
    elif vae_source is not None and (vae_source == NANO or is_repo_id(vae_source)):
        index["vae_source"] = vae_source
    _write_json(folder / INDEX, index)
    return folder


def _save_part(
    folder: Path, model: Any, state: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    _write_json(folder / "config.json", _config(model))
    tensors = {key: _plain(value, dtype) for key, value in state.items()}
    write_tensors(folder / f"{WEIGHTS}.safetensors", tensors, {"format": "pt"})


def _plain(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """On the CPU, of the wanted dtype, and sharing its memory with no other tensor."""
    kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
    plain = value.detach().to("cpu", kind).contiguous()
    return plain.clone() if plain.untyped_storage().nbytes() > plain.nbytes else plain


def _config(model: Any) -> dict[str, Any]:
    """The config as the class itself writes it, without the path it was loaded from."""
    config: dict[str, Any] = json.loads(model.to_json_string())
    return {key: value for key, value in config.items() if key not in _LOCAL_KEYS}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    atomic_write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
