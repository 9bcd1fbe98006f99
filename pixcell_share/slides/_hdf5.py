"""HDF5 files that are written whole or not at all, and read with plain errors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pixcell_share.errors import SlideError
from pixcell_share.files import atomic_path

if TYPE_CHECKING:
    from typing_extensions import Buffer


@contextmanager
def create_hdf5(path: Path) -> Iterator[h5py.File]:
    """A new file that takes the place of ``path`` when the block succeeds.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as temporary, _SinkFile(temporary) as sink:
        with h5py.File(sink, "w") as file:
            yield file
        sink.raise_error()


def open_hdf5(path: Path) -> h5py.File:
    """The file, open for reading; close it, or use it in a ``with`` block.

    Raises:
        SlideError: it is missing, truncated, or no HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise file_error(path, f"cannot be read as HDF5: {error}") from error


def add_rows(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    attributes: Mapping[str, int | float | str],
) -> h5py.Dataset:
    """A dataset as TRIDENT makes them: one chunk a row, free to grow, attributes sorted."""
    dataset = file.create_dataset(
        name,
        shape=shape,
        maxshape=(None, *shape[1:]),
        chunks=(1, *shape[1:]),
        dtype=dtype,
        track_times=False,
    )
    for key in sorted(attributes):
        dataset.attrs[key] = attributes[key]
    return dataset


def get_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """The dataset ``name``, or a `SlideError` that it is not there."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise file_error(path, f"has no dataset named {name}")
    return dataset


def read_rows(dataset: h5py.Dataset, path: Path, rows: Any = ()) -> NDArray[Any]:
    """``dataset[rows]``, or a `SlideError` where the file is damaged."""
    try:
        return np.asarray(dataset[rows])
    except OSError as error:
        raise file_error(path, f"is damaged: {error}") from error


def file_error(path: Path, problem: str) -> SlideError:
    """The error for a coords or features file."""
    return SlideError(f"{path.name} {problem}", "make the file again, or take it out of the folder")


class _SinkFile(io.FileIO):
    """A file that fails once and then takes every write as done.

    After a failed write the HDF5 library cannot close its file, and crashes the process at exit.
    So it may close, and `raise_error` tells what happened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        left = memoryview(data).cast("B")
        size = left.nbytes
        try:
            while left.nbytes and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
            raise
        return size

    def truncate(self, size: int | None = None, /) -> int:
        return super().truncate(size) if self._error is None else 0

    def raise_error(self) -> None:
        """Raise what went wrong, if it has not reached the caller yet."""
        if self._error is not None:
            raise self._error
