"""The original PixCell checkpoints (``pixcell_256.ckpt``) to diffusers' names, and back.

The original code is PixArt's: query, key and value of the self-attention are one matrix, key and
value of the cross-attention another, and the table of patch positions is stored.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from pixcell_share.errors import SettingsError, WeightsMismatchError
from pixcell_share.pixcell.load import MAY_BE_MISSING, build_on_meta, fill_strictly
from pixcell_share.pixcell.pickled import read_pickled
from pixcell_share.pixcell.positions import patch_table
from pixcell_share.pixcell.purpose import check_purpose
from pixcell_share.pixcell.save import save_generator
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel

_log = logging.getLogger(__name__)

_TIME = "adaln_single.emb.timestep_embedder"
_LAYERS = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": f"{_TIME}.linear_1",
    "t_embedder.mlp.2": f"{_TIME}.linear_2",
    "t_block.1": "adaln_single.linear",
    "y_embedder.y_proj.fc1": "caption_projection.linear_1",
    "y_embedder.y_proj.fc2": "caption_projection.linear_2",
    "final_layer.linear": "proj_out",
}
_BLOCK_LAYERS = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
    "cross_attn.proj": ("attn2.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
}
_TENSORS = {
    "y_embedder.y_embedding": "caption_projection.uncond_embedding",
    "final_layer.scale_shift_table": "scale_shift_table",
}
_PATCH_POSITIONS = "pos_embed"
_TOKEN_POSITIONS = "y_pos_embed"
_HEAD_DIM = 72
_TILE_LATENTS = 32
_WRONG = "name a checkpoint of PixCell, such as pixcell_256.ckpt or pixcell_1024.ckpt"


@dataclass(frozen=True)
class ConvertSettings:
    """What a checkpoint does not say itself."""

    size_px: int | None = None
    """Side of the images in px. None: from the stored patch positions, else from the tokens."""
    heads: int | None = None
    """Attention heads. None: width / 72, as in the released models."""
    ema: bool = False
    """Take ``state_dict_ema``, the running average of the weights, instead of ``state_dict``."""
    dtype: torch.dtype | None = None
    """Of the written weights. None: as in the checkpoint."""


@dataclass(frozen=True)
class Conversion:
    """What a checkpoint held."""

    config: Mapping[str, Any]
    """Config of the transformer."""
    parameters: int
    """Numbers that were trained."""

    def describe(self) -> str:
        """The model in one line."""
        config = self.config
        return (
            f"{self.parameters:,} parameters, {config['num_layers']} blocks of width "
            f"{config['cross_attention_dim']}, {config['sample_size'] * 8} px, "
            f"{config['caption_num_tokens']} embedding(s) of {config['caption_channels']}"
        )


def convert_checkpoint(
    checkpoint: Path, folder: Path, settings: ConvertSettings | None = None
) -> Conversion:
    """Write an original ``.ckpt`` as a diffusers folder.

    Args:
        checkpoint: the file; nothing in it is run.
        folder: where to write.
        settings: what the file does not say.

    Returns:
        What was converted.

    Raises:
        WeightsError: the file is missing or damaged, or holds code.
        WeightsMismatchError: keys are missing or unknown, or the size does not fit; names them.
        SettingsError: the number of heads, or of pixels, has to be given.
        StorageError: the folder cannot be written.
    """
    chosen = settings or ConvertSettings()
    state = read_original(checkpoint, ema=chosen.ema)
    config = infer_config(state, size_px=chosen.size_px, heads=chosen.heads)
    model = from_original(state, config, checkpoint)
    scheduler = DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", prediction_type="epsilon"
    )
    save_generator(folder, model, scheduler, dtype=chosen.dtype)
    return Conversion(config, sum(parameter.numel() for parameter in model.parameters()))


def read_original(path: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """The state dict of an original checkpoint, without the ``module.`` of its training.

    Raises:
        WeightsError: the file is missing or damaged, or holds code.
        WeightsMismatchError: it holds no such state dict.
    """
    content = read_pickled(path)
    key = "state_dict_ema" if ema else "state_dict"
    if isinstance(content, dict) and isinstance(content.get(key), dict):
        content = content[key]
    elif ema:
        raise WeightsMismatchError(f"{path} holds no {key}", "convert it without --ema")
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsMismatchError(f"{path} holds no {key}", _WRONG)
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def infer_config(
    state: Mapping[str, Tensor], *, size_px: int | None = None, heads: int | None = None
) -> dict[str, Any]:
    """The diffusers config that the shapes of an original state dict imply.

    Raises:
        WeightsMismatchError: the tensors that tell are missing or misshapen.
        SettingsError: the heads or the image size cannot be told.
    """
    try:
        width, channels, patch, _ = state["x_embedder.proj.weight"].shape
        tokens, caption = state["y_embedder.y_embedding"].shape
        outputs = state["final_layer.linear.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsMismatchError(f"this is no PixCell checkpoint: {error}", _WRONG) from error
    if heads is None and width % _HEAD_DIM == 0:
        heads = width // _HEAD_DIM
    if heads is None or heads < 1 or width % heads:
        raise SettingsError(
            f"the attention heads of a model of width {width} cannot be told, or are not {heads}",
            "give their number with --heads",
        )
    side = _latent_side(state, patch, tokens, size_px)
    return {
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "in_channels": channels,
        "out_channels": outputs // patch**2,
        "num_layers": _depth(state),
        "cross_attention_dim": width,
        "sample_size": side,
        "patch_size": patch,
        "interpolation_scale": side / 64,  # the paper's 0.5, 1 and 2 at 256, 512 and 1024 px
        "use_additional_conditions": False,
        "caption_channels": caption,
        "caption_num_tokens": tokens,
    }


def from_original(
    state: Mapping[str, Tensor], config: Mapping[str, Any], source: Path
) -> PixCellTransformer2DModel:
    """The transformer that an original state dict describes, on the CPU.

    Raises:
        WeightsMismatchError: keys are missing, unknown or misshapen, or the size does not fit.
    """
    model: PixCellTransformer2DModel = build_on_meta(PixCellTransformer2DModel, config, source)
    model.fill_tables()
    _check_patch_positions(model, state, source)
    renamed = rename(state, source)
    check_purpose(model, renamed, source)
    fill_strictly(model, renamed, source, may_be_missing=MAY_BE_MISSING)
    model.eval()
    return model


def rename(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Original names to diffusers' names; fused matrices are cut, ``pos_embed`` is dropped.

    Raises:
        WeightsMismatchError: a key is missing or unknown; names it.
    """
    names = dict(_names(_depth(state)))
    optional = {_PATCH_POSITIONS, _TOKEN_POSITIONS}
    unknown = sorted(set(state) - set(names) - optional)
    missing = sorted(set(names) - set(state))
    for what, keys in (("unknown", unknown), ("missing", missing)):
        if keys:
            listed = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise WeightsMismatchError(
                f"{source} has {what} keys: {listed} ({len(keys)} in all)", _WRONG
            )
    renamed: dict[str, Tensor] = {}
    for key, new in names.items():
        renamed.update(zip(new, state[key].chunk(len(new)), strict=True))
    positions = state.get(_TOKEN_POSITIONS)
    if positions is not None and names and _tokens(state) > 1:
        renamed[MAY_BE_MISSING] = positions.reshape(1, -1, positions.shape[-1])
    return renamed


def to_original(model: PixCellTransformer2DModel) -> dict[str, Tensor]:
    """The inverse of `from_original`: a state dict as the original code saves it."""
    state = model.state_dict()
    original = {
        key: torch.cat([state[name] for name in new])
        for key, new in _names(model.config.num_layers)
    }
    side = model.config.sample_size // model.config.patch_size
    original[_PATCH_POSITIONS] = patch_table(model.inner_dim, side, model.interpolation_scale)
    if MAY_BE_MISSING in state:
        original[_TOKEN_POSITIONS] = state[MAY_BE_MISSING].clone()
    return original


def _names(depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every original key with the diffusers keys that its rows become, in order."""
    for old, new in _TENSORS.items():
        yield old, (new,)
    layers: dict[str, tuple[str, ...]] = {old: (new,) for old, new in _LAYERS.items()}
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        yield f"blocks.{index}.scale_shift_table", (f"{block}.scale_shift_table",)
        for old, parts in _BLOCK_LAYERS.items():
            layers[f"blocks.{index}.{old}"] = tuple(f"{block}.{part}" for part in parts)
    for old, parts in layers.items():
        for kind in ("weight", "bias"):
            yield f"{old}.{kind}", tuple(f"{part}.{kind}" for part in parts)


def _depth(state: Mapping[str, Tensor]) -> int:
    numbers = [key.split(".")[1] for key in state if key.startswith("blocks.")]
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def _tokens(state: Mapping[str, Tensor]) -> int:
    return int(state["y_embedder.y_embedding"].shape[0])


def _latent_side(state: Mapping[str, Tensor], patch: int, tokens: int, size_px: int | None) -> int:
    """Latent pixels along one side: as asked for, as the patch positions say, or by the tokens."""
    if size_px is not None:
        if size_px < 8 * patch or size_px % (8 * patch):
            raise SettingsError(f"--size {size_px} is no size of an image", "use 256 or 1024")
        return size_px // 8
    stored = state.get(_PATCH_POSITIONS)
    if stored is not None and stored.ndim >= 2:
        return math.isqrt(int(stored.shape[-2])) * patch
    return _TILE_LATENTS * math.isqrt(tokens)


def _check_patch_positions(
    model: PixCellTransformer2DModel, state: Mapping[str, Tensor], source: Path
) -> None:
    """Warn where the stored patch positions are not those that the model will compute."""
    stored = state.get(_PATCH_POSITIONS)
    if stored is None:
        return
    computed = model.pos_embed.pos_embed
    same = stored.numel() == computed.numel()
    if not same or not torch.allclose(stored.float().view_as(computed), computed, atol=0.02):
        _log.warning(
            "%s: its patch positions are not those of %d px at interpolation %g, which are used; "
            "if the pictures look wrong, give another --size",
            source, model.config.sample_size * 8, model.interpolation_scale,
        )  # fmt: skip
