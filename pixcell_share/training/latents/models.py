"""The VAE and the encoder that turn regions into rows of a store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixcell_share.encoders import Encoder, embed_grid, load_encoder
from pixcell_share.errors import SettingsError, WeightsError
from pixcell_share.pixcell.device import DTYPES, out_of_memory, resolve_device, resolve_dtype
from pixcell_share.pixcell.folders import find_vae
from pixcell_share.pixcell.identity import identify
from pixcell_share.pixcell.load import load_vae
from pixcell_share.pixcell.vae import LatentCodec, to_pixels
from pixcell_share.training.latents.info import TILE_PX
from pixcell_share.training.latents.shards import Rows
from pixcell_share.weights import ModelIdentity

_GPU_PIXELS, _CPU_PIXELS = 8 * 1024**2, 16 * 256**2
"""Pixels encoded at once where nobody says: 8 regions of 1024 px on a GPU, 1 on a CPU."""


@dataclass(frozen=True)
class CoderSettings:
    """Which models encode, and where."""

    vae: str
    """``nano``, a folder or a repository."""
    encoder: str
    """A name of the encoder registry."""
    weights: str | None = None
    """Folder or repository of the encoder's weights."""
    trust_remote_code: bool = False
    """Let an encoder that ships as code run it."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    dtype: str = "auto"
    """``auto`` is fp32 for the VAE (on a GPU its convolutions then run in TF32, which has the
    precision of the float16 that is stored), and what its authors recommend for the encoder."""

    def __post_init__(self) -> None:
        if self.dtype not in {"auto", *DTYPES}:
            raise SettingsError(
                f"--dtype {self.dtype} is not known", f"one of: auto, {', '.join(DTYPES)}"
            )


class RegionCoder:
    """Encodes regions.

    Args:
        settings: which models.
        region_px: side of a region.

    Raises:
        WeightsError: a model's weights cannot be used.
        SettingsError: no such device or encoder.
    """

    def __init__(self, settings: CoderSettings, region_px: int) -> None:
        self.grid = region_px // TILE_PX
        self.device = resolve_device(settings.device)
        chosen = None if settings.dtype == "auto" else resolve_dtype(settings.dtype)
        self._codec, self.vae_identity = _load_codec(settings.vae, self.device, chosen)
        self._encoder = load_encoder(
            settings.encoder,
            weights=settings.weights,
            device=self.device,
            dtype=chosen,
            trust_remote_code=settings.trust_remote_code,
        )
        self.batch_size = max(1, _pixels(self.device) // region_px**2)

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self._encoder

    @property
    def precisions(self) -> str:
        """The number formats of VAE and encoder, such as ``float16, float32``."""
        names = (str(dtype) for dtype in (self._codec.vae.dtype, self._encoder.dtype))
        return ", ".join(name.removeprefix("torch.") for name in names)

    def geometry(self, region_px: int) -> dict[str, Any]:
        """The fields of `StoreInfo` that the models decide.

        Raises:
            SettingsError: the VAE's latents cannot be cut along the grid of tiles.
        """
        codec = self._codec
        if TILE_PX % codec.factor:
            raise SettingsError(
                f"the VAE shrinks {codec.factor} times, which does not divide {TILE_PX} px",
                "use a VAE that shrinks 8 times, as SD3.5's does",
            )
        return {
            "grid": self.grid,
            "latent_channels": codec.channels,
            "latent_side": region_px // codec.factor,
            "embedding_dim": self._encoder.dim,
            "scaling_factor": codec.scale,
            "shift_factor": codec.shift,
            "vae": asdict(self.vae_identity),
            "encoder": asdict(self._encoder.identity),
        }

    @torch.inference_mode()
    def encode(self, regions: NDArray[np.uint8]) -> tuple[Rows, Rows]:
        """Latents float16 (B, C, S, S), unscaled posterior means, and embeddings (B, T, D).

        Args:
            regions: uint8 (B, P, P, 3).

        Raises:
            WeightsError: a latent does not fit into float16, or is not finite.
            PixcellError: the GPU's memory does not suffice.
        """
        vae = self._codec.vae
        with out_of_memory(f"a batch of {len(regions)} regions"):
            pixels = to_pixels(regions).to(vae.device, vae.dtype)
            latents = vae.encode(pixels).latent_dist.mode().to(torch.float16).cpu().numpy()
            embeddings = embed_grid(self._encoder, regions, self.grid).astype(np.float16)
        if not (np.isfinite(latents).all() and np.isfinite(embeddings).all()):
            raise WeightsError(
                f"the models gave numbers that are not finite, in {self.precisions}",
                "run again with --dtype bf16 or fp32; if that fails too, the weights are damaged",
            )
        return latents, embeddings


def _pixels(device: torch.device) -> int:
    return _GPU_PIXELS if device.type == "cuda" else _CPU_PIXELS


def _load_codec(
    name: str, device: torch.device, dtype: torch.dtype | None
) -> tuple[LatentCodec, ModelIdentity]:
    located, folder = find_vae(name)
    vae = load_vae(folder)
    # float16 where it is exact enough alone: not on a CPU, nor where the VAE's config warns of it.
    upcast = dtype == torch.float16 and (device.type == "cpu" or vae.config.force_upcast)
    kind = dtype if dtype and not upcast else torch.float32
    # Not diffusers' own `to`, which warns of parts to be kept in float32 even if there are none.
    nn.Module.to(vae, device, kind).eval().requires_grad_(False)
    vae.to(memory_format=torch.channels_last)  # faster convolutions, as in `pixcell.model`
    return LatentCodec(vae), identify("vae", located, folder)
