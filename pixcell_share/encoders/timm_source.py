"""Encoders that timm builds and whose weights are one file of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from pixcell_share.encoders.checkpoint import build_unfilled, fill
from pixcell_share.encoders.spec import Loaded, LoadRequest
from pixcell_share.errors import WeightsMissingError
from pixcell_share.weights import Located, find_local, locate

__all__ = ["WEIGHT_FILES", "TimmSource", "build_timm", "choose_file"]

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""The names that the Hugging Face Hub gives to a model's weights, best first."""


def build_timm(architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """An untrained model; ``vit`` means timm's `VisionTransformer` with these arguments alone."""
    if architecture == "vit":
        return cast(nn.Module, timm.models.vision_transformer.VisionTransformer(**kwargs))
    return cast(nn.Module, timm.create_model(architecture, pretrained=False, **kwargs))


@dataclass(frozen=True)
class TimmSource:
    """A timm architecture and the Hugging Face repository that holds its weights."""

    repo: str
    architecture: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """The untrained model."""
        return build_timm(self.architecture, self.kwargs)

    def find(self, request: LoadRequest) -> Located | None:
        """The folder on this machine with a weight file, or None."""
        where = request.weights or self.repo
        return find_local(where, patterns=_names(where))

    def load(self, request: LoadRequest) -> Loaded:
        """Build and fill the model."""
        where = request.weights or self.repo
        located = self.find(request) or _download(where, request.page)
        path = choose_file(where, located)
        module = build_unfilled(self.build)
        fill(module, path)
        return Loaded(module, located, (path,))


def choose_file(where: str, located: Located) -> Path:
    """The weight file that was named, or the best of the folder."""
    named = Path(where).expanduser()
    if named.is_file():
        return named
    return next(path for name in WEIGHT_FILES if (path := located.folder / name).is_file())


def _names(where: str) -> tuple[str, ...]:
    named = Path(where).expanduser()
    return (named.name,) if named.is_file() else WEIGHT_FILES


def _download(repo: str, page: str | None) -> Located:
    """One file, not both: a repository often holds the same weights in two formats."""
    for name in WEIGHT_FILES[:-1]:
        try:
            return locate(repo, patterns=[name], page=page)
        except WeightsMissingError:
            continue
    return locate(repo, patterns=WEIGHT_FILES, page=page)
