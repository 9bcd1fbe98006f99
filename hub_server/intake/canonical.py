"""The hub's own form of a cohort: plain arrays that NumPy alone opens.

For each shard ``cohorts/<digest>/images-00000.npy``, uint8 (N, H, W, 3) RGB, and
``labels-00000.npy``, int64 little-endian (N,), in the order of the bundle: version 1.0 of the
format of `numpy.lib.format`, C order, nothing behind the array. The hub writes each byte itself
from tiles that the confined process unpacked; no byte of a stranger's file structure comes along.
Why arrays: ``docs/formats.md`` has the measurements.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hub_server.storage import Storage
from pixcell_share.errors import StorageError

FORMAT = "npy"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class CanonicalFile:
    """One array in the storage."""

    key: str
    sha256: str
    size: int
    """In bytes."""

    @property
    def name(self) -> str:
        """Its name in the folder of the bundle."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class CanonicalShard:
    """The tiles of one shard."""

    images: NDArray[np.uint8]
    """(N, H, W, 3) RGB; mapped, so a tile is read when it is looked at."""
    labels: NDArray[np.int64]
    """(N,) places in the manifest's classes."""


def write_shard(
    storage: Storage, digest: str, index: int, shape: tuple[int, ...], pixels: io.RawIOBase
) -> CanonicalFile:
    """Write the images of one shard as they come.

    Args:
        storage: where to.
        digest: of the bundle.
        index: of the shard.
        shape: (N, H, W, 3).
        pixels: exactly as many bytes.

    Raises:
        StorageError: the disk is full.
        Exception: whatever reading ``pixels`` raises; no file is there then.
    """
    return _put(storage, f"{folder_of(digest)}/images-{index:05d}.npy", "|u1", shape, pixels)


def write_labels(
    storage: Storage, digest: str, index: int, labels: NDArray[np.int64]
) -> CanonicalFile:
    """Write the labels (N,) of one shard; errors are those of `write_shard`."""
    data = io.BytesIO(labels.astype("<i8").tobytes())
    key = f"{folder_of(digest)}/labels-{index:05d}.npy"
    return _put(storage, key, "<i8", labels.shape, cast(io.RawIOBase, data))


def describe(files: Iterable[CanonicalFile]) -> dict[str, Any]:
    """The files as the registry keeps them."""
    return {"format": FORMAT, "files": [asdict(file) for file in files]}


def files_of(canonical: Mapping[str, Any]) -> tuple[CanonicalFile, ...]:
    """What `describe` wrote down."""
    return tuple(CanonicalFile(**file) for file in canonical["files"])


def folder_of(digest: str) -> str:
    """Where in the storage the files of a bundle lie."""
    return f"cohorts/{digest}"


def open_shards(storage: Storage, canonical: Mapping[str, Any]) -> Iterator[CanonicalShard]:
    """The shards of an accepted cohort, in order.

    Args:
        storage: of the hub.
        canonical: from the cohort's row.

    Raises:
        NotFoundError: a file is gone.
        StorageError: a file has another size, or the storage does not answer.
    """
    files = files_of(canonical)
    images = [file for file in files if "/images-" in file.key]
    labels = [file for file in files if "/labels-" in file.key]
    for image_file, label_file in zip(images, labels, strict=True):
        yield CanonicalShard(_mapped(storage, image_file), _mapped(storage, label_file))


def delete_files(storage: Storage, digest: str) -> None:
    """Delete all that the storage has of a bundle, whole or left over.

    Raises:
        StorageError: the storage does not answer.
    """
    for key in list(storage.list(folder_of(digest))):
        storage.delete(key)


class _Joined(io.RawIOBase):
    """A header, then a stream."""

    def __init__(self, header: bytes, rest: io.RawIOBase) -> None:
        super().__init__()
        self._parts = [cast(io.RawIOBase, io.BytesIO(header)), rest]

    def readable(self) -> bool:
        """True: it is a file for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes of the first part that has some."""
        while self._parts:
            if count := self._parts[0].readinto(buffer):
                return count
            self._parts.pop(0)
        return 0


def _put(
    storage: Storage, key: str, dtype: str, shape: tuple[int, ...], data: io.RawIOBase
) -> CanonicalFile:
    stream = io.BufferedReader(_Joined(_header(dtype, shape), data), _BLOCK)
    stored = storage.put(key, cast(BinaryIO, stream))
    return CanonicalFile(key, stored.sha256, stored.size)


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    npy.write_array_header_1_0(
        header, {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
    )
    return header.getvalue()


def _mapped(storage: Storage, file: CanonicalFile) -> NDArray[Any]:
    """The array, mapped; one that lies elsewhere is copied to a nameless file first."""
    with _local(storage, file.key) as stream:
        size = stream.seek(0, io.SEEK_END)
        if size != file.size:
            raise StorageError(
                f"{file.key} has {size} bytes, and {file.size} were written",
                "look at the disk, and restore the file from a backup",
            )
        stream.seek(0)
        npy.read_magic(stream)
        shape, _, dtype = npy.read_array_header_1_0(stream)
        return np.memmap(stream, dtype, "r", stream.tell(), shape)


@contextmanager
def _local(storage: Storage, key: str) -> Iterator[BinaryIO]:
    with storage.get(key) as stored:
        if storage.path(key) is not None:
            yield stored
            return
        with tempfile.TemporaryFile() as copy:
            while block := stored.read(_BLOCK):
                copy.write(block)
            yield cast(BinaryIO, copy)
