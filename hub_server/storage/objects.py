"""A storage in an object store.

obstore speaks to it: one wheel knows S3 and what is compatible with it, Google Cloud and Azure,
writes an object as a whole or not at all, and needs no event loop. (fsspec would need a package for
each of them; s3fs alone brings aiobotocore and pins botocore.) Credentials and endpoints come from
the environment, as the vendors name them: ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from hub_server.storage.blocks import BLOCK_BYTES, HashedBlocks, Stored, opened
from hub_server.storage.keys import is_key, missing, names_of
from hub_server.storage.storage import Storage
from pixcell_share.errors import NotFoundError, SettingsError, StorageError

_PART_BYTES = 16 << 20
"""Of one part of a large object. S3 takes 10,000 parts: objects of up to 156 GiB."""


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
        name = "/".join(names_of(key))
        try:
            with opened(source) as stream, _store_errors(key):
                hashed = HashedBlocks(key, stream, sha256)
                obstore.put(self._store, name, iter(hashed), chunk_size=_PART_BYTES)
        except NotFoundError as error:
            raise StorageError(
                f"the storage has no bucket for {key}", "make the bucket, or mend hub.toml"
            ) from error
        return hashed.stored()

    def get(self, key: str) -> BinaryIO:
        """See `Storage.get`."""
        with _store_errors(key):
            reader = obstore.open_reader(
                self._store, "/".join(names_of(key)), buffer_size=BLOCK_BYTES
            )
        return cast(BinaryIO, io.BufferedReader(_Reader(key, reader), BLOCK_BYTES))

    def path(self, key: str) -> None:
        """Always None."""
        names_of(key)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            with _store_errors(key):
                obstore.head(self._store, "/".join(names_of(key)))
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            with _store_errors(key):
                obstore.delete(self._store, "/".join(names_of(key)))
        except NotFoundError:
            return

    def list(self, folder: str) -> Iterator[str]:
        """See `Storage.list`."""
        with _store_errors(folder):
            pages = obstore.list(self._store, "/".join(names_of(folder)))
            keys = [str(found["path"]) for page in pages for found in page]
        return iter(sorted(key for key in keys if is_key(key)))


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
def _store_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
        raise missing(key) from error
    except BaseError as error:
        raise StorageError(
            f"the storage failed at {key}: {_first_line(error)}",
            "check its address and credentials, then try again",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
