"""What every storage can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hub_server.storage.blocks import HashedBlocks, Stored
from pixcell_share.files import atomic_path


class Storage(ABC):
    """Files by key. A key is one to eight names with ``/`` between, such as ``encoders/x/card``.

    A name begins with a letter or a digit and goes on with these and ``. _ -`` (ASCII); anything
    else is a `ValueError`: keys are made by the hub, never by a stranger.
    """

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
            for block in HashedBlocks(key, stream, sha256):
                file.write(block)
