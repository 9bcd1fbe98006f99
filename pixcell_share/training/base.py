"""The generator that a LoRA is trained for, and whether a store fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pixcell_share.errors import WeightsMismatchError
from pixcell_share.pixcell.folders import find_generator
from pixcell_share.pixcell.load import load_scheduler, load_transformer, read_json, weight_files
from pixcell_share.pixcell.transformer import PixCellTransformer2DModel
from pixcell_share.training.diffusion import Diffusion
from pixcell_share.training.latents import StoreInfo
from pixcell_share.weights import digest_files

_ROUNDING = 1e-3
_REMEDY = "name the generator that belongs to the store's VAE and encoder, or make the store anew"


@dataclass(frozen=True)
class Base:
    """A trained generator, as the trainer takes it up."""

    transformer: PixCellTransformer2DModel
    """float32, on the CPU."""
    prediction: Any
    """``epsilon`` or ``v_prediction``, as its scheduler says."""
    vae: Mapping[str, Any]
    """Config of the VAE in its folder; empty where there is none."""
    sha256: str
    """Digest of its weights."""

    @classmethod
    def load(cls, path_or_repo: str) -> Base:
        """Load a generator; its VAE's weights are not needed.

        Args:
            path_or_repo: a folder, a repository, or ``nano``.

        Raises:
            WeightsError: it cannot be read (also as one of its kinds).
            WeightsMismatchError: its noise schedule is not the trainer's.
        """
        root = find_generator(path_or_repo).folder
        scheduler = load_scheduler(root / "scheduler")
        _check_schedule(scheduler)
        vae = root / "vae" / "config.json"
        weights = root / "transformer"
        return cls(
            load_transformer(weights).float(),
            scheduler.config.prediction_type,
            read_json(vae) if vae.is_file() else {},
            digest_files(weight_files(weights)),
        )

    def check(self, info: StoreInfo) -> None:
        """Refuse a store whose numbers mean something else than this generator's.

        Raises:
            WeightsMismatchError: names the first difference.
        """
        config = self.transformer.config
        pairs = {
            "embeddings have length": (info.embedding_dim, config.caption_channels),
            "latents have this many channels:": (info.latent_channels, config.in_channels),
        }
        for name in ("scaling_factor", "shift_factor"):
            if self.vae.get(name) is not None:
                pairs[f"VAE has the {name}"] = (getattr(info, name), self.vae[name])
        for name, (found, wanted) in pairs.items():
            if abs(found - wanted) > _ROUNDING * abs(wanted):
                raise WeightsMismatchError(
                    f"the store's {name} {found}, the generator's {wanted}", _REMEDY
                )


def _check_schedule(scheduler: Any) -> None:
    kept, ours = scheduler.alphas_cumprod, Diffusion().snr
    if len(kept) != len(ours) or not torch.allclose(kept / (1 - kept), ours, rtol=_ROUNDING):
        raise WeightsMismatchError(
            "the generator's scheduler does not have 1000 linear betas from 1e-4 to 0.02",
            "name a PixCell model: the trainer knows no other noise schedule",
        )
