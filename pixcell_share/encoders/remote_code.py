"""Encoders whose Python code comes with their weights: it runs only when a person says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from pixcell_share.encoders.spec import Loaded, LoadRequest
from pixcell_share.errors import SettingsError, WeightsError, WeightsMismatchError
from pixcell_share.weights import Located, find_local, locate

__all__ = ["RemoteCodeSource"]

_FILES = ("*.safetensors", "*.bin")
_CODE = ("*.json", "*.py", "*.txt")


class _ImageTower(nn.Module):
    """The image side of a vision-language model, as an ordinary module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.model.encode_image(pixels))  # type: ignore[operator]


@dataclass(frozen=True)
class RemoteCodeSource:
    """A transformers repository with its own code and an ``encode_image`` method."""

    repo: str

    def find(self, request: LoadRequest) -> Located | None:
        """The folder on this machine with configuration and weights, or None."""
        return find_local(
            request.weights or self.repo, patterns=[*_FILES, *_CODE], required=["config.json"]
        )

    def load(self, request: LoadRequest) -> Loaded:
        """Run the model's own code and check that every weight was found.

        Raises:
            SettingsError: ``trust_remote_code`` was not given.
        """
        if not request.trust_remote_code:
            raise SettingsError(
                f"{self.repo} runs Python code that comes with its weights",
                f"read that code at https://huggingface.co/{self.repo}, "
                "then run again with --trust-remote-code",
            )
        where = request.weights or self.repo
        located = locate(
            where, patterns=[*_FILES, *_CODE], required=["config.json"], page=request.page
        )
        files = tuple(sorted(p for pattern in _FILES for p in located.folder.glob(pattern)))
        return Loaded(_ImageTower(_run(located.folder)), located, files)


def _run(folder: Path) -> nn.Module:
    from transformers import AutoModel  # heavy, and needed by this one encoder only

    try:
        model, report = AutoModel.from_pretrained(
            folder, trust_remote_code=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # code of strangers may raise anything
        raise WeightsError(
            f"the code in {folder} failed: {type(error).__name__}: {error}",
            "check that the folder is complete, and that its code supports this transformers",
        ) from error
    _check_complete(folder, report)
    return cast(nn.Module, model)


def _check_complete(folder: Path, report: Mapping[str, Any]) -> None:
    """A missing tensor would silently stay random; a superfluous one does no harm."""
    missing = [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]
    if missing:
        names = ", ".join(str(name) for name in sorted(missing, key=str)[:3])
        raise WeightsMismatchError(
            f"{folder} holds another model: missing or of another shape: {names}",
            "check that --weights names the files of this very model, completely downloaded",
        )
