"""What the program knows about an encoder before any weight is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pixcell_share.encoders.transform import TileTransform
from pixcell_share.weights import Located

__all__ = ["EncoderSpec", "Licence", "LoadRequest", "Loaded", "ModelSource"]


@dataclass(frozen=True)
class Licence:
    """The terms of a model's weights; a record of what was read, not legal advice."""

    terms: str
    """SPDX identifier where one exists."""
    noncommercial: bool
    """Whether the terms forbid commercial use, also of what the model helps to make."""
    page: str
    """Where the terms stand and the weights are asked for."""
    gated: bool = False
    """Whether the page gives the weights only to accounts that accepted the terms."""


@dataclass(frozen=True)
class LoadRequest:
    """What a person chose about where weights come from."""

    weights: str | None = None
    """A folder, a file or a repository id in place of the model's own repository."""
    page: str | None = None
    """The page that an error names."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the weights may run."""


@dataclass(frozen=True)
class Loaded:
    """A model with its weights, on the CPU."""

    module: nn.Module
    """Maps (B, 3, input_px, input_px) to tokens or embeddings."""
    located: Located
    files: tuple[Path, ...]
    """The weight files that were read."""


class ModelSource(Protocol):
    """A way to get a model: how it is built, and where its weights lie."""

    @property
    def repo(self) -> str:
        """Where the weights come from when nobody names another place."""

    def find(self, request: LoadRequest) -> Located | None:
        """Where the weights are on this machine; None if they would have to be downloaded."""

    def load(self, request: LoadRequest) -> Loaded:
        """Build the model and fill it strictly; raises a `WeightsError` where that fails."""


def _as_is(output: Tensor) -> Tensor:
    return output


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder of the registry."""

    name: str
    dim: int
    """Length of an embedding."""
    source: ModelSource
    transform: TileTransform
    licence: Licence
    pool: Callable[[Tensor], Tensor] = _as_is
    """From the model's output to embeddings (B, dim)."""
    cuda_dtype: torch.dtype = torch.float32
    """The precision that its authors recommend on a GPU."""
