"""Load an encoder and turn tiles into embeddings."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pixcell_share.encoders.nano import folder_spec
from pixcell_share.encoders.registry import ENCODERS
from pixcell_share.encoders.spec import EncoderSpec, Loaded, LoadRequest
from pixcell_share.encoders.trained import trained_folder, trained_spec
from pixcell_share.errors import SettingsError, WeightsError, WeightsMismatchError
from pixcell_share.weights import ModelIdentity, digest_files

__all__ = ["Encoder", "embed_grid", "encoder_spec", "load_encoder"]


class Encoder:
    """A model that turns tiles into embeddings. Embeddings of patients are patient data."""

    def __init__(
        self,
        spec: EncoderSpec,
        module: nn.Module,
        identity: ModelIdentity,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.spec = spec
        self.identity = identity
        self.device = torch.device(device)
        self.dtype = dtype
        self._module = module.float().eval().requires_grad_(False).to(self.device)

    @property
    def name(self) -> str:
        """The encoder's name in the registry."""
        return self.spec.name

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return self.spec.dim

    @torch.inference_mode()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeddings float32 (B, dim) of tiles uint8 (B, H, W, 3), in one forward pass.

        Raises:
            ValueError: the array is not uint8 (B, H, W, 3).
            WeightsMismatchError: the model gives another number of features than its spec says.
            WeightsError: an embedding is not finite, in a precision too low for this model.
        """
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32)
        pixels = self.spec.transform(images, self.device)
        embeddings = self._forward(pixels).float().cpu().numpy()
        self._check(embeddings, len(images))
        return embeddings

    def _forward(self, pixels: Tensor) -> Tensor:
        # Autocast, as the model cards do it: norms and softmax stay in float32.
        lower = self.dtype != torch.float32
        precision = (
            torch.autocast(self.device.type, self.dtype) if lower else contextlib.nullcontext()
        )
        with precision:
            output = self._module(pixels)
        return self.spec.pool(output.float())

    def _check(self, embeddings: np.ndarray, count: int) -> None:
        if embeddings.shape != (count, self.dim):
            raise WeightsMismatchError(
                f"{self.name} gave {embeddings.shape} for {count} tiles, not ({count}, {self.dim})",
                "check that the weights and their configuration belong together",
            )
        if not np.isfinite(embeddings).all():
            raise WeightsError(
                f"{self.name} gave embeddings that are not finite, in {self.dtype}",
                "run again with --dtype float32; if that fails too, the weights are damaged",
            )


def encoder_spec(name: str, weights: str | None = None) -> EncoderSpec:
    """The spec of an encoder; ``nano`` is described by its folder, here or in ``weights``.

    Args:
        name: a name of `ENCODERS`, or the folder of an encoder that was trained here.
        weights: as of `load_encoder`.

    Raises:
        SettingsError: no encoder has this name.
    """
    if name not in ENCODERS and (folder := trained_folder(name)) is not None:
        return trained_spec(folder)
    if name not in ENCODERS:
        raise SettingsError(f"there is no encoder {name!r}", f"choose one of {', '.join(ENCODERS)}")
    if name == "nano" and weights is not None:
        return folder_spec("nano", Path(weights).expanduser())
    return ENCODERS[name]


def load_encoder(
    name: str | EncoderSpec,
    *,
    weights: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Build an encoder and fill it with its weights: local, cached, or downloaded.

    Args:
        name: a name of `ENCODERS`, the folder of an encoder that was trained here, or a spec of
            one's own.
        weights: a folder, a file or a repository id in place of the model's own repository.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: precision of the forward pass; None: what the authors recommend on a GPU, float32
            on the CPU. float16 on the CPU becomes float32, which is faster and exact there.
        trust_remote_code: let Python code run that comes with the weights (KEEP needs it).

    Raises:
        SettingsError: no such encoder or device, or the encoder needs ``trust_remote_code``.
        WeightsMissingError: not on this machine, and the download was not possible.
        WeightsGatedError: the weights need an account that accepted their terms.
        WeightsMismatchError: the files hold another model.
    """
    spec = name if isinstance(name, EncoderSpec) else encoder_spec(name, weights)
    dtype = _precision(spec, device, dtype)
    loaded = spec.source.load(LoadRequest(weights, spec.licence.page or None, trust_remote_code))
    return Encoder(spec, loaded.module, _identity(spec, loaded), device=device, dtype=dtype)


def embed_grid(encoder: Encoder, images: np.ndarray, grid: int = 4) -> np.ndarray:
    """Embeddings (B, grid², dim) of the sub-tiles of large tiles, row by row.

    PixCell-1024 is conditioned on the 4 by 4 grid of 256 px tiles of its 1024 px tile, in the
    order of einops' ``(d1 h) (d2 w) c -> (d1 d2) h w c``.

    Args:
        encoder: embeds each sub-tile.
        images: uint8 (B, H, W, 3), H and W multiples of ``grid``.
        grid: sub-tiles per side.

    Raises:
        ValueError: a side is not a multiple of ``grid``.
    """
    count, height, width, channels = images.shape
    if height % grid or width % grid:
        raise ValueError(f"{height} x {width} px cannot be cut into {grid} x {grid} equal tiles")
    cells = images.reshape(count, grid, height // grid, grid, width // grid, channels)
    cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height // grid, width // grid, channels)
    return encoder.embed(cells).reshape(count, grid * grid, encoder.dim)


def _precision(
    spec: EncoderSpec, device: str | torch.device, dtype: torch.dtype | None
) -> torch.dtype:
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingsError("there is no CUDA device here", "run with --device cpu")
    if kind == "cpu" and dtype == torch.float16:
        return torch.float32
    return dtype or (spec.cuda_dtype if kind == "cuda" else torch.float32)


def _identity(spec: EncoderSpec, loaded: Loaded) -> ModelIdentity:
    return ModelIdentity(
        role="encoder",
        name=spec.name,
        source=loaded.located.source,
        revision=loaded.located.revision,
        licence=spec.licence.terms,
        noncommercial=spec.licence.noncommercial,
        sha256=digest_files(loaded.files),
    )
