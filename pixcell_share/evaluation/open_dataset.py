"""One way in for data sets: by name, split file, folder or embedding file."""

from __future__ import annotations

from pathlib import Path

from pixcell_share.errors import SettingsError
from pixcell_share.evaluation.embedded import EmbeddedDataset
from pixcell_share.evaluation.embedding_files import (
    SUFFIXES,
    is_thunder_folder,
    read_embedding_file,
    read_thunder_embeddings,
)
from pixcell_share.evaluation.image_folder import read_image_folder
from pixcell_share.evaluation.images import ImageDataset
from pixcell_share.evaluation.named_datasets import SIZES, read_named_dataset
from pixcell_share.evaluation.thunder_split import read_thunder_split


def open_dataset(
    where: str, *, base: Path | None = None, images: Path | None = None
) -> ImageDataset | EmbeddedDataset:
    """The data set that a person named.

    Args:
        where: a name of `SIZES`; Thunder's split file (``.json``); an embedding file (``.npz``,
            ``.h5``); a folder of embeddings in Thunder's layout; or a folder of pictures.
        base: for a name: Thunder's base folder.
        images: for a split file: the folder of its pictures; None: the folder of the file.

    Raises:
        SettingsError: there is nothing by that name.
        DataError: what is there is incomplete or damaged.
    """
    if where in SIZES:
        return read_named_dataset(where, base)
    path = Path(where).expanduser()
    if path.is_dir():
        return read_thunder_embeddings(path) if is_thunder_folder(path) else read_image_folder(path)
    if path.is_file() and path.suffix == ".json":
        return read_thunder_split(path, images or path.parent)
    if path.is_file() and path.suffix in SUFFIXES:
        return read_embedding_file(path)
    raise SettingsError(
        f"{where} is no data set",
        f"name a folder, a .json, .npz or .h5 file, or one of {', '.join(SIZES)}",
    )
