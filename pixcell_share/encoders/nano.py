"""Encoders that describe themselves: a folder with ``config.json`` and ``model.safetensors``.

``nano``, the encoder that ships in this package (``pixcell_share/nano/weights/encoder``), is one.
The configuration is a JSON object::

    {
      "architecture": "vit",         a timm model name, or "vit" for timm's VisionTransformer
      "kwargs": {"img_size": 224, "patch_size": 16, "embed_dim": 192, "depth": 4, "num_heads": 3,
                 "num_classes": 0, "global_pool": "avg"},      JSON values only
      "dim": 192,                    the module gives (B, dim): pooling is part of the architecture
      "input_px": 224,
      "resize_px": 224,              optional; the shorter side before the centre crop
      "interpolation": "bicubic",    optional; or "bilinear"
      "mean": [0.485, 0.456, 0.406],
      "std": [0.229, 0.224, 0.225],
      "licence": "Apache-2.0",
      "noncommercial": false         optional
    }

``model.safetensors`` is the state dict of the module, loaded strictly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import pixcell_share
from pixcell_share.encoders.checkpoint import fill
from pixcell_share.encoders.spec import EncoderSpec, Licence, Loaded, LoadRequest
from pixcell_share.encoders.timm_source import build_timm
from pixcell_share.encoders.transform import TileTransform
from pixcell_share.errors import WeightsMismatchError
from pixcell_share.weights import Located, find_local, locate

__all__ = ["NANO_FOLDER", "folder_spec"]

NANO_FOLDER = Path(pixcell_share.__file__).resolve().parent / "nano" / "weights" / "encoder"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class FolderSource:
    """A self-describing folder on this machine."""

    folder: Path

    @property
    def repo(self) -> str:
        """The folder itself."""
        return str(self.folder)

    def find(self, request: LoadRequest) -> Located | None:
        """The folder itself, or None where a file is missing."""
        return find_local(str(self.folder), patterns=[_WEIGHTS], required=[_CONFIG])

    def load(self, request: LoadRequest) -> Loaded:
        """Build what ``config.json`` says and fill it."""
        located = locate(
            str(self.folder), patterns=[_WEIGHTS], required=[_CONFIG], page=request.page
        )
        module = self.build()
        fill(module, self.folder / _WEIGHTS)
        return Loaded(module, located, (self.folder / _WEIGHTS,))

    def build(self) -> nn.Module:
        """The untrained module."""
        config = _read(self.folder)
        try:
            return build_timm(config["architecture"], config["kwargs"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _broken(self.folder, error) from error


def folder_spec(name: str, folder: Path) -> EncoderSpec:
    """What ``config.json`` in ``folder`` says about the encoder.

    Raises:
        WeightsMissingError: the folder has no ``config.json`` or no ``model.safetensors``.
        WeightsMismatchError: the configuration is not as described above.
    """
    locate(str(folder), patterns=[_WEIGHTS], required=[_CONFIG])
    config = _read(folder)
    try:
        return EncoderSpec(
            name=name,
            dim=int(config["dim"]),
            source=FolderSource(folder),
            transform=_transform(config),
            licence=Licence(config["licence"], bool(config.get("noncommercial", False)), page=""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(folder, error) from error


def _transform(config: dict[str, Any]) -> TileTransform:
    if config.get("interpolation", "bicubic") not in {"bilinear", "bicubic"}:
        raise ValueError(f"interpolation {config['interpolation']!r}")
    mean, std = ([float(v) for v in config[key]] for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3:
        raise ValueError("mean and std are not three numbers each")
    return TileTransform(
        input_px=int(config["input_px"]),
        resize_px=config.get("resize_px"),
        interpolation=config.get("interpolation", "bicubic"),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / _CONFIG).read_text())
        return dict(config)
    except (ValueError, TypeError) as error:
        raise _broken(folder, error) from error


def _broken(folder: Path, error: Exception) -> WeightsMismatchError:
    return WeightsMismatchError(
        f"{folder / _CONFIG} does not describe an encoder: {error!r}",
        "write it as the module pixcell_share.encoders.nano describes it",
    )
