"""Embeddings on disk: Thunder's folders, or one file of arrays.

Thunder: ``train|val|test/embeddings.h5`` and ``labels.h5``, each with one dataset a tile, named
``0``, ``1``, ... (float32 (D,) and int64). One file, ``.npz`` or ``.h5``: the arrays
``train_embeddings`` (N, D) and ``train_labels`` (N,), and so for ``val`` and ``test``.

The files are the user's own: they are read without the confinement that bundles from strangers
get, but nothing pickled is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import DataError
from pixcell_share.evaluation.embedded import PARTS, Embedded, EmbeddedDataset
from pixcell_share.slides._hdf5 import create_hdf5

EMBEDDINGS, LABELS = "embeddings.h5", "labels.h5"
SUFFIXES = (".npz", ".h5", ".hdf5")
"""Endings of a file of arrays."""


def read_embedding_file(path: Path) -> EmbeddedDataset:
    """One file of arrays.

    Raises:
        DataError: the file is damaged, or an array is missing or of a wrong shape.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _from_arrays(path, arrays.__getitem__)
        with h5py.File(path, "r") as file:
            return _from_arrays(path, lambda name: file[name][()])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"{path} does not hold the arrays of an embedded data set: {error}",
            "write train_embeddings (N, D), train_labels (N,), and so for val and test",
        ) from error


def _from_arrays(path: Path, array: Callable[[str], Any]) -> EmbeddedDataset:
    train, val, test = (
        Embedded(
            np.asarray(array(f"{part}_embeddings"), np.float32),
            np.asarray(array(f"{part}_labels"), np.int64),
        )
        for part in PARTS
    )
    return EmbeddedDataset(path.stem, train, val, test)


def is_thunder_folder(folder: Path) -> bool:
    """Whether the folder holds a data set's embeddings in Thunder's layout."""
    return all((folder / part / EMBEDDINGS).is_file() for part in PARTS)


def read_thunder_embeddings(folder: Path, *, name: str | None = None) -> EmbeddedDataset:
    """All parts of a folder in Thunder's layout.

    Args:
        folder: Thunder's ``embeddings/DATASET/MODEL``.
        name: of the data set; None: the name of the folder above.

    Raises:
        DataError: a file is missing or damaged, or the tiles are not numbered from 0 without a gap.
    """
    train, val, test = (read_thunder_part(folder / part) for part in PARTS)
    return EmbeddedDataset(name or folder.resolve().parent.name, train, val, test)


def read_thunder_part(folder: Path) -> Embedded:
    """One part: see `read_thunder_embeddings`."""
    embeddings = np.asarray(_stacked(folder / EMBEDDINGS), np.float32)
    return Embedded(embeddings, np.asarray(_stacked(folder / LABELS), np.int64).reshape(-1))


def write_thunder_part(folder: Path, part: Embedded) -> None:
    """Write one part so that Thunder reads it; equal input gives equal bytes.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    for name, rows in ((EMBEDDINGS, part.embeddings), (LABELS, part.labels)):
        with create_hdf5(folder / name) as (file, sink):
            for number, row in enumerate(rows):
                file.create_dataset(str(number), data=row, track_times=False)
                sink.raise_error()


def _stacked(path: Path) -> NDArray[Any]:
    """(N, ...) the datasets ``0`` to ``N - 1`` of a file."""
    try:
        with h5py.File(path, "r") as file:
            return np.stack([file[str(number)][()] for number in range(len(file))])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} does not hold datasets 0, 1, ... of one shape: {error}",
            "extract the embeddings again",
        ) from error
