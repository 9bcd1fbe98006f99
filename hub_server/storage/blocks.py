"""Bytes on their way into or out of a storage, with their digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixcell_share.errors import StorageError

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Stored:
    """What was written."""

    size: int
    """In bytes."""
    sha256: str
    """64 hex digits."""


class HashedBlocks:
    """The blocks of a stream; raises at the end if their digest is not the expected one."""

    def __init__(self, key: str, stream: BinaryIO, expected: str) -> None:
        self._key, self._stream, self._expected = key, stream, expected
        self._digest, self._size = hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        while block := self._stream.read(BLOCK_BYTES):
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


@contextmanager
def opened(source: Path | BinaryIO | bytes) -> Iterator[BinaryIO]:
    """A stream of a file, of bytes, or the stream itself; only what was opened here is closed."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        with source.open("rb") as stream:
            yield stream
    else:
        yield source
