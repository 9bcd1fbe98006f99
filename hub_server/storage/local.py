"""A storage in a folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hub_server.storage.blocks import HashedBlocks, Stored, opened
from hub_server.storage.keys import is_key, missing, names_of
from hub_server.storage.storage import Storage
from pixcell_share.files import atomic_path, storage_errors


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, source: Path | BinaryIO | bytes, *, sha256: str = "") -> Stored:
        """See `Storage.put`; on the disk when this returns."""
        target = self.path(key)
        with opened(source) as stream:
            hashed = HashedBlocks(key, stream, sha256)
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
            raise missing(key) from error

    def path(self, key: str) -> Path:
        """Where the file lies, or would lie."""
        return self._folder.joinpath(*names_of(key))

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
        return iter(sorted(key for key in keys if is_key(key)))


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
