"""Where a stage's weights start from: nothing, or the stage before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell.load import load_transformer
from pixcell_share.pixcell.purpose import NULL_KEY, TOKEN_POSITIONS_KEY
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.stages import StageSettings

_GATES = slice(2, None, 3)
"""Rows of a block's ``scale_shift_table`` that gate its attention and its feed-forward."""


@dataclass(frozen=True)
class Taken:
    """What a stage took from the one before."""

    kept: tuple[str, ...]
    """Keys of the state dict that came from there."""
    fresh: tuple[str, ...]
    """Keys that stay as the new stage starts: the null embedding and positions of other tokens."""


def build_model(
    settings: StageSettings, embedding_dim: int, latent_channels: int, *, seed: int = 0
) -> PixCellTransformer2DModel:
    """A fresh model on the CPU, float32; every rank builds the same.

    Args:
        settings: of the stage.
        embedding_dim: length of an embedding.
        latent_channels: of the VAE.
        seed: of the draw; the global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = settings.config(embedding_dim, latent_channels)
        model: PixCellTransformer2DModel = PixCellTransformer2DModel(**config)
        start_quietly(model)
    if settings.recompute:
        model.enable_gradient_checkpointing()
    return model


@torch.no_grad()
def start_quietly(model: Any) -> None:
    """Initialise as DiT does (Peebles & Xie, arXiv:2212.09748), with two exceptions.

    Matrices are Glorot-uniform and biases zero; the output, the modulation and the
    cross-attention's output are zero. DiT draws the embedders of time and condition with deviation
    0.02, which at its width is about Glorot's and at a small one almost silence: here they are as
    the rest. DiT starts with its gates at zero (adaLN-Zero): here at 0.1, so that every block
    learns from the first step.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    patches = model.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
    nn.init.zeros_(patches.bias)
    for layer in (model.proj_out, model.adaln_single.linear):
        nn.init.zeros_(layer.weight)
    for block in model.transformer_blocks:
        nn.init.zeros_(block.attn2.to_out[0].weight)
        block.scale_shift_table.zero_()
        block.scale_shift_table[_GATES] = 0.1


def initialise_from(model: PixCellTransformer2DModel, folder: str | Path) -> Taken:
    """Fill a model from the stage before; position tables stay those of the model's own config.

    With another number of tokens the null embedding and the tokens' positions stay fresh. With
    the same number everything is taken, so this also starts a stage from the released weights.

    Args:
        model: from `build_model`.
        folder: a ``transformer/`` folder, or the model's folder around it.

    Raises:
        WeightsError: a file is missing or damaged.
        WeightsMismatchError: the model there has another size; names the first difference.
    """
    path = Path(folder).expanduser()
    path = path / "transformer" if (path / "transformer").is_dir() else path
    before = load_transformer(path).state_dict()
    own = model.state_dict()
    fresh = _fresh_keys(before, own)
    kept = tuple(key for key in own if key not in fresh)
    for key in kept:
        if key not in before or before[key].shape != own[key].shape:
            found = tuple(before[key].shape) if key in before else "missing"
            raise WeightsMismatchError(
                f"{path} is no earlier stage of this model: its {key} is {found}, "
                f"not {tuple(own[key].shape)}",
                "name the model folder of the stage before, trained with the same preset",
            )
    model.load_state_dict({key: before[key] for key in kept}, strict=False)
    return Taken(kept, fresh)


def _fresh_keys(before: dict[str, Any], own: dict[str, Any]) -> tuple[str, ...]:
    """Keys that are not taken: token positions always follow the config of the new stage."""
    same_tokens = before[NULL_KEY].shape[0] == own[NULL_KEY].shape[0]
    left = {TOKEN_POSITIONS_KEY} | (set() if same_tokens else {NULL_KEY})
    return tuple(key for key in own if key in left)
