"""Encoders whose Python code comes with their weights: it runs only when a person says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from pixcell_share.encoders.checkpoint import fill
from pixcell_share.encoders.spec import Loaded, LoadRequest
from pixcell_share.encoders.timm_source import WEIGHT_FILES, choose_file
from pixcell_share.errors import SettingsError, WeightsError
from pixcell_share.weights import Located, find_local, locate

__all__ = ["RemoteCodeSource"]

_CODE = ("*.json", "*.py")


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
        return find_local(request.weights or self.repo, patterns=WEIGHT_FILES, required=_CODE)

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
        located = locate(where, patterns=WEIGHT_FILES, required=_CODE, page=request.page)
        path = choose_file(where, located)
        module = _build(located.folder)
        fill(module, path)
        return Loaded(_ImageTower(module), located, (path,))


def _build(folder: Path) -> nn.Module:
    """The model of the folder's own code, untrained.

    Not ``from_pretrained``: transformers 5 refuses models written for transformers 4, KEEP among
    them, and it only warns where a weight is missing.
    """
    from transformers import AutoConfig, AutoModel  # heavy, and needed by this one encoder only

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        return cast(nn.Module, AutoModel.from_config(config, trust_remote_code=True))
    except Exception as error:  # code of strangers may raise anything
        raise WeightsError(
            f"the code in {folder} failed: {type(error).__name__}: {error}",
            "check that the folder is complete, and that its code supports this transformers",
        ) from error
