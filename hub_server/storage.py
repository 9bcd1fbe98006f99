"""Where accepted cohorts and encoders are kept: a folder, or an object store by its URL.

Object stores are spoken to by obstore: one wheel knows S3 and what is compatible with it, Google
Cloud and Azure, writes an object as a whole or not at all, and needs no event loop. (fsspec would
need a package for each of them; s3fs alone brings aiobotocore and pins botocore.) Credentials and
endpoints come from the environment, as the vendors name them: ``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL_S3`` and so on.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from pixcell_share.errors import NotFoundError, SettingsError, StorageError
from pixcell_share.files import atomic_path, storage_errors

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAX_SEGMENTS = 8
_BLOCK = 1 << 20
_PART_BYTES = 16 << 20
"""Of one part of a large object. S3 takes 10,000 parts: objects of up to 156 GiB."""


@dataclass(frozen=True)
class Stored:
    """What was written."""

    size: int
    """In bytes."""
    sha256: str
    """64 hex digits."""


class Storage(ABC):
    """Files by key. A key is one to eight names with ``/`` between, such as ``encoders/x/card``.

    A name begins with a letter or a digit and goes on with these and ``. _ -`` (ASCII); anything
    else is a `ValueError`: keys are made by the hub, never by a stranger.
    """

    @staticmethod
    def open(url: str) -> Storage:
        """The storage at ``url``: a folder's path, ``file://``, ``s3://bucket/prefix``, ``memory:///``
        and what else obstore knows.

        Raises:
            SettingsError: obstore does not know it, or misses a setting.
        """
        if "://" not in url or url.startswith("file://"):
            return LocalStorage(Path(url.removeprefix("file://")))
        return ObjectStorage(url)

    @abstractmethod
    def put(self, key: str, source: Path | BinaryIO | bytes, *, sha256: str = "") -> Stored:
        """Write a file, in one step; a file of that key is replaced.

        Args:
            key: where to.
            source: a file's path, a stream, or the bytes themselves.
            sha256: what it must be; nothing is written if it is not.

        Raises:
            StorageError: the disk is full, the store does not answer, or ``sha256`` differs.
        """

    @abstractmethod
    def get(self, key: str) -> BinaryIO:
        """Open a file for reading; it can seek.

        Raises:
            NotFoundError: there is none.
            StorageError: the store does not answer.
        """

    @abstractmethod
    def path(self, key: str) -> Path | None:
        """Where the file lies on this machine; None for a store elsewhere."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is a file of that key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is removed already."""

    @abstractmethod
    def list(self, folder: str) -> Iterator[str]:
        """Keys that begin with the names of ``folder``, sorted."""

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Copy a file to this machine, in one step.

        Args:
            key: which.
            target: where to.
            sha256: what it must be; ``target`` is as it was if it is not.

        Raises:
            NotFoundError: there is none.
            StorageError: the disk is full, the store does not answer, or ``sha256`` differs.
        """
        with self.get(key) as stream, atomic_path(target) as part, part.open("wb") as file:
            for block in _Hashed(key, stream, sha256):
                file.write(block)


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, source: Path | BinaryIO | bytes, *, sha256: str = "") -> Stored:
        """See `Storage.put`; on the disk when this returns."""
        target = self.path(key)
        with _opened(source) as stream:
            hashed = _Hashed(key, stream, sha256)
            with atomic_path(target) as part, part.open("wb") as file:
                for block in hashed:
                    file.write(block)
        _settle(target.parent)
        return hashed.stored()

    def get(self, key: str) -> BinaryIO:
        """See `Storage.get`."""
        try:
            return self.path(key).open("rb")
        except FileNotFoundError as error:
            raise _missing(key) from error

    def path(self, key: str) -> Path:
        """Where the file lies, or would lie."""
        return self._folder.joinpath(*_names(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self.path(key).is_file()

    def delete(self, key: str) -> None:
        """See `Storage.delete`; folders that are empty then go too."""
        path = self.path(key)
        with storage_errors(path):
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._folder or not _removed(folder):
                    break

    def list(self, folder: str) -> Iterator[str]:
        """See `Storage.list`."""
        below = self.path(folder).rglob("*")
        keys = (path.relative_to(self._folder).as_posix() for path in below if path.is_file())
        return iter(sorted(key for key in keys if _is_key(key)))


class ObjectStorage(Storage):
    """An object store; ``memory:///`` lives as long as this object, for tests."""

    def __init__(self, url: str) -> None:
        try:
            self._store = from_url(url)
        except (BaseError, ValueError) as error:
            raise SettingsError(
                f"storage: {url.partition('?')[0]} cannot be opened: {_first_line(error)}",
                "write a folder or a URL such as s3://bucket/prefix into hub.toml",
            ) from error

    def put(self, key: str, source: Path | BinaryIO | bytes, *, sha256: str = "") -> Stored:
        """See `Storage.put`; a stream that raises leaves no object behind."""
        name = "/".join(_names(key))
        try:
            with _opened(source) as stream, _store_errors(key):
                hashed = _Hashed(key, stream, sha256)
                obstore.put(self._store, name, iter(hashed), chunk_size=_PART_BYTES)
        except NotFoundError as error:
            raise StorageError(
                f"the storage has no bucket for {key}", "make the bucket, or mend hub.toml"
            ) from error
        return hashed.stored()

    def get(self, key: str) -> BinaryIO:
        """See `Storage.get`."""
        with _store_errors(key):
            reader = obstore.open_reader(self._store, "/".join(_names(key)), buffer_size=_BLOCK)
        return cast(BinaryIO, io.BufferedReader(_Reader(key, reader), _BLOCK))

    def path(self, key: str) -> None:
        """Always None."""
        _names(key)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            with _store_errors(key):
                obstore.head(self._store, "/".join(_names(key)))
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            with _store_errors(key):
                obstore.delete(self._store, "/".join(_names(key)))
        except NotFoundError:
            return

    def list(self, folder: str) -> Iterator[str]:
        """See `Storage.list`."""
        with _store_errors(folder):
            pages = obstore.list(self._store, "/".join(_names(folder)))
            keys = [str(found["path"]) for page in pages for found in page]
        return iter(sorted(key for key in keys if _is_key(key)))


class _Hashed:
    """The blocks of a stream; raises at the end if their digest is not the expected one."""

    def __init__(self, key: str, stream: BinaryIO, expected: str) -> None:
        self._key, self._stream, self._expected = key, stream, expected
        self._digest, self._size = hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        while block := self._stream.read(_BLOCK):
            self._digest.update(block)
            self._size += len(block)
            yield block
        if self._expected and self.stored().sha256 != self._expected:
            raise StorageError(
                f"{self._key} is not what it was when its digest was taken",
                "look at the disk that it came from; nothing was written",
            )

    def stored(self) -> Stored:
        """What went through."""
        return Stored(self._size, self._digest.hexdigest())


class _Reader(io.RawIOBase):
    """obstore's reader, as Python's buffered streams want it."""

    def __init__(self, key: str, reader: obstore.ReadableFile) -> None:
        self._key, self._reader = key, reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _store_errors(self._key):
            data = self._reader.read(len(buffer))
        buffer[: len(data)] = memoryview(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _store_errors(self._key):
            return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()


@contextmanager
def _opened(source: Path | BinaryIO | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        with source.open("rb") as stream:
            yield stream
    else:
        yield source


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
        raise _missing(key) from error
    except BaseError as error:
        raise StorageError(
            f"the storage failed at {key}: {_first_line(error)}",
            "check its address and credentials, then try again",
        ) from error


def _names(key: str) -> list[str]:
    if not _is_key(key):
        raise ValueError(f"{key!r} is no key of the storage")
    return key.split("/")


def _is_key(key: str) -> bool:
    names = key.split("/")
    return len(names) <= _MAX_SEGMENTS and all(map(_SEGMENT.fullmatch, names))


def _missing(key: str) -> NotFoundError:
    return NotFoundError(f"the storage has no {key}", "it was deleted, or never written")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _settle(folder: Path) -> None:
    """Make sure that the new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
