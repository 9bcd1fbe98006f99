"""Trained encoders in the hub's storage."""

from __future__ import annotations

import shutil
from pathlib import Path

from hub_server.registry import Encoder
from hub_server.storage import Storage
from pixcell_share.encoders import load_encoder
from pixcell_share.evaluation import export_thunder_model
from pixcell_share.files import atomic_path

_CONFIG = "timm/config.json"


def keep_encoder(storage: Storage, folder: Path, key: str) -> str:
    """Write the export of a training to the storage, with a file that makes Thunder load it.

    Args:
        storage: of the hub.
        folder: the export, see `pixcell_share.ssl`.
        key: storage key of its files.

    Returns:
        SHA-256 of the weights, as sites name them in the bundles that they make with them.

    Raises:
        StorageError: the disk is full, or the storage does not answer.
    """
    encoder = load_encoder(str(folder))
    export_thunder_model(encoder, folder / "thunder")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        storage.put(f"{key}/{path.relative_to(folder).as_posix()}", path)
    return encoder.identity.sha256


def encoder_folder(storage: Storage, encoder: Encoder, work: Path) -> Path:
    """The folder of an encoder on this machine.

    Args:
        storage: of the hub.
        encoder: which.
        work: where to copy it to if the storage is elsewhere.

    Raises:
        NotFoundError: its files are gone.
        StorageError: the storage does not answer.
    """
    config = storage.path(f"{encoder.folder}/{_CONFIG}")
    if config is not None:
        return config.parents[1]
    for key in storage.list(f"{encoder.folder}/timm"):
        target = work / key.removeprefix(f"{encoder.folder}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with storage.get(key) as stream, atomic_path(target) as part, part.open("wb") as file:
            shutil.copyfileobj(stream, file)
    return work
