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


class Sink(io.FileIO):
    """The bytes of an HDF5 file; a failed write is kept, to be raised outside of HDF5.

    The HDF5 library cannot close a file after a failed write, and crashes the process later. So it
    never hears of one: it writes on into the void, and `raise_error` tells what happened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write all of ``data``, or take it as written once something failed."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        try:
            while left.nbytes and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return 0

    def raise_error(self) -> None:
        """Raise the first failure, if there was one."""
        if self._error is not None:
            raise self._error


@contextmanager
def create_hdf5(path: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """A new file that takes the place of ``path`` when the block succeeds.

    Ask the sink for errors now and then in a block that takes long.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as temporary, Sink(temporary) as sink:
        with h5py.File(sink, "w") as file:
            yield file, sink
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
