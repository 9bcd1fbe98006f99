"""The files of the log.

::

    acts.jsonl     one act a line; only ever appended to
    checkpoint     signed, for the last act; replaced in one step
    lock           locked (flock) while one process reads and appends
    torn/          what a crash left half written, kept by its digest
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hub_server.log.act import MAX_LINE_BYTES
from pixcell_share.errors import HubLogError
from pixcell_share.files import atomic_path, exclusive, storage_errors


class LogFiles:
    """Bytes of the log; what they mean is said elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acts = folder / "acts.jsonl"
        self.checkpoint = folder / "checkpoint"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for others, in this process or another, then keep them out."""
        with exclusive(self.folder / "lock"):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Let others read, and nobody append; a copy of a log has no lock and needs none."""
        lock = self.folder / "lock"
        if not lock.exists():
            yield
            return
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def size(self) -> int:
        """Length of the acts in bytes; 0 if there are none."""
        return self.acts.stat().st_size if self.acts.exists() else 0

    def read(self, start: int, end: int) -> bytes:
        """A part of the acts."""
        if end <= start:
            return b""
        with self.acts.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def lines_before(self, end: int) -> Iterator[bytes]:
        """The lines up to byte ``end``, the last first, without their newlines."""
        if end <= 0:
            return
        rest, end = b"", end - 1  # the newline of the last line
        while end > 0:
            start = max(0, end - MAX_LINE_BYTES)
            rest, *whole = (self.read(start, end) + rest).split(b"\n")
            yield from reversed(whole)
            end = start
        yield rest

    def lines(self) -> Iterator[bytes]:
        """Every line, without its newline.

        Raises:
            HubLogError: one is longer than any act.
        """
        if not self.acts.exists():
            return
        with self.acts.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 2):
                if len(line) > MAX_LINE_BYTES + 1:
                    raise HubLogError("a line of the log is too long for an act", "see the file")
                yield line.removesuffix(b"\n")

    def append(self, line: bytes) -> None:
        """Add ``line`` and its newline; on the disk when this returns, or not there at all.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        with storage_errors(self.acts):
            descriptor = os.open(self.acts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
            finally:
                os.close(descriptor)
            if size == 0:
                _settle(self.folder)

    def write_checkpoint(self, note: bytes) -> None:
        """Replace the checkpoint."""
        with atomic_path(self.checkpoint) as part:
            part.write_bytes(note)
        _settle(self.folder)

    def cut(self, size: int, digest: str) -> None:
        """Shorten the acts to ``size`` bytes, after the rest was kept as ``torn/<digest>``."""
        torn = self.folder / "torn" / digest
        with atomic_path(torn) as part:
            part.write_bytes(self.read(size, self.size()))
        _settle(torn.parent)
        with storage_errors(self.acts), self.acts.open("rb+") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _settle(folder: Path) -> None:
    """Make sure that new names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
