"""DINOv2 through ``torch.hub``: its code from a local clone or GitHub, its weights from a file.

The code is looked for in the folder of ``--weights``, in ``PIXCELL_DINOV2_REPO``, in torch.hub's
own folder, and then fetched from GitHub at a pinned commit. The weights are looked for in the
folder of ``--weights``, then in torch.hub's ``checkpoints``, then fetched from their public page.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from pixcell_share.encoders.checkpoint import fill
from pixcell_share.encoders.spec import Loaded, LoadRequest
from pixcell_share.errors import WeightsMissingError
from pixcell_share.weights import LOCAL_SOURCE, Located, offline

__all__ = ["CLONE_VARIABLE", "TorchHubSource"]

CLONE_VARIABLE = "PIXCELL_DINOV2_REPO"
_REPO = "facebookresearch/dinov2"
_COMMIT = "b8931f7bf91576930313be2c6d6af376033b35f0"  # 2025-08; pinned, so that no push changes us
_WEIGHTS_URL = "https://dl.fbaipublicfiles.com/dinov2"


@dataclass(frozen=True)
class TorchHubSource:
    """One entry of DINOv2's ``hubconf.py``."""

    entry: str
    """Such as ``dinov2_vitb14`` or ``dinov2_vitb14_reg``."""

    @property
    def repo(self) -> str:
        """The repository of the code."""
        return _REPO

    @property
    def weight_file(self) -> str:
        """The published file name; four registers are written into it."""
        return f"{self.entry.replace('_reg', '_reg4')}_pretrain.pth"

    @property
    def url(self) -> str:
        """The public address of the weights."""
        return f"{_WEIGHTS_URL}/{self.entry.removesuffix('_reg')}/{self.weight_file}"

    def find(self, request: LoadRequest) -> Located | None:
        """Where the weights are, if code and weights both are on this machine."""
        path = self._local_weights(request)
        if path is None or _local_code(request) is None:
            return None
        return _located(path)

    def load(self, request: LoadRequest) -> Loaded:
        """Build the model with DINOv2's own class and fill it strictly."""
        _check_named(request)
        path = self._local_weights(request) or self._download_weights()
        module = self.build(request)
        fill(module, path)
        return Loaded(module, _located(path), (path,))

    def build(self, request: LoadRequest) -> nn.Module:
        """The untrained model.

        Raises:
            WeightsMissingError: the code is not on this machine and could not be fetched.
        """
        code = _local_code(request)
        source, where = ("local", str(code)) if code else ("github", f"{_REPO}:{_COMMIT}")
        if code is None and offline():
            raise _missing(f"the code of {_REPO} is not on this machine, and HF_HUB_OFFLINE is set")
        with _quiet(), _network_errors(f"the code of {_REPO}"):
            return cast(
                nn.Module,
                torch.hub.load(  # type: ignore[no-untyped-call]
                    where,
                    self.entry,
                    source=source,
                    trust_repo=True,
                    skip_validation=True,
                    verbose=False,
                    pretrained=False,
                ),
            )

    def _local_weights(self, request: LoadRequest) -> Path | None:
        named = _named(request)
        if named is not None and named.is_file():
            return named
        folders = [named] if named else []
        for folder in [*folders, _hub_folder() / "checkpoints"]:
            if (folder / self.weight_file).is_file():
                return folder / self.weight_file
        return _only_weights(named) if named else None

    def _download_weights(self) -> Path:
        if offline():
            raise _missing(f"{self.weight_file} is not on this machine, and HF_HUB_OFFLINE is set")
        path = _hub_folder() / "checkpoints" / self.weight_file
        path.parent.mkdir(parents=True, exist_ok=True)
        with _network_errors(self.weight_file):
            torch.hub.download_url_to_file(self.url, str(path), progress=sys.stderr.isatty())
        return path


def _named(request: LoadRequest) -> Path | None:
    return Path(request.weights).expanduser() if request.weights else None


def _check_named(request: LoadRequest) -> None:
    """A folder that was named must hold code or weights: never look elsewhere in silence."""
    named = _named(request)
    if named is None or named.is_file():
        return
    if not any(named.glob("*.pth")) and not (named / "hubconf.py").is_file():
        raise _missing(f"{named} is no clone of {_REPO} and holds no .pth file")


def _only_weights(folder: Path) -> Path | None:
    """The one .pth of the folder: weights that somebody trained further have their own name."""
    found = sorted(folder.glob("*.pth"))
    return found[0] if len(found) == 1 else None


def _local_code(request: LoadRequest) -> Path | None:
    named = _named(request)
    folders = [named.parent if named.is_file() else named] if named else []
    if CLONE_VARIABLE in os.environ:
        folders.append(Path(os.environ[CLONE_VARIABLE]).expanduser())
    cached = f"{_REPO.replace('/', '_')}_"
    folders += [_hub_folder() / (cached + ref) for ref in (_COMMIT, "main")]
    return next((folder for folder in folders if (folder / "hubconf.py").is_file()), None)


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir())


def _located(path: Path) -> Located:
    if path.parent == _hub_folder() / "checkpoints":
        return Located(path.parent, _REPO, _COMMIT)
    return Located(path.parent, LOCAL_SOURCE, LOCAL_SOURCE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch.hub off standard output, which belongs to ``--json``, and DINOv2's hints away."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="xFormers is")
        yield


@contextlib.contextmanager
def _network_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # urllib's errors are OSErrors
        raise _missing(f"{what} could not be fetched: {error}") from error


def _missing(cause: str) -> WeightsMissingError:
    return WeightsMissingError(
        cause,
        f"clone https://github.com/{_REPO}, put the .pth file from its page into that folder, "
        f"and name the folder with --weights (or the clone alone with {CLONE_VARIABLE})",
    )
