"""Take the bytes of one request into one file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hub_server.uploads.settings import UploadSettings
from hub_server.uploads.upload import Upload
from pixcell_share.errors import UploadError
from pixcell_share.wire import FileOffer, Refusal

_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOOK_AT_DISK_EVERY = 8 << 20
_BLOCK = 4 << 20


class Receiver:
    """A file that is open for one request, and locked until `close`.

    The lock is the system's (`flock`): it keeps two requests apart, in this process or another,
    and vanishes with its process. A request that is cut keeps what came (`keep`): its bytes came
    through TLS, and the digest of the whole file is still to come.

    Methods wait for each other: a request that is cut off may still have a block on its way.
    """

    def __init__(self, upload: Upload, file: FileOffer, settings: UploadSettings) -> None:
        """Open and lock the file.

        Raises:
            UploadError: another request writes it, or it is whole already.
        """
        self._upload, self._file, self._settings = upload, file, settings
        self._part = upload.part(file.name)
        self._descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(self._descriptor, file.name)
            if not _same_file(self._descriptor, self._part):
                raise wrong_offset(file, file.size)
            if (upload.bundle / file.name).exists():
                self._part.unlink()
                raise wrong_offset(file, file.size)
        except UploadError:
            os.close(self._descriptor)
            raise
        self._begin = self.offset = upload.offset(file)
        self._looked_at = -_LOOK_AT_DISK_EVERY
        self._turn = threading.RLock()
        self._sha256, self._sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        self._hash_sha1 = False

    def expect(self, offset: int, *, sha1: bool = False) -> None:
        """Say where the request begins, and whether its SHA-1 will be asked for.

        Raises:
            UploadError: the file has another size.
        """
        if offset != self.offset:
            raise wrong_offset(self._file, self.offset)
        self._hash_sha1 = sha1

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            UploadError: it is more than was announced or than one request may bring, which undoes
                the request; or the disk is full, which keeps what was written.
        """
        with self._turn:
            self._check_size(self.offset + len(data))
            self._look_at_disk()
            self._append(data)
            self._sha256.update(data)
            if self._hash_sha1:
                self._sha1.update(data)

    def accept(self, digests: Sequence[tuple[str, bytes]]) -> int:
        """End a request that came whole; returns the new offset.

        Args:
            digests: what the request's bytes must have, by ``sha256`` or ``sha1``.

        Raises:
            UploadError: a digest differs, which undoes the request; the file is complete and its
                own digest differs, which empties it; or the disk is full.
        """
        found = {"sha256": self._sha256.digest(), "sha1": self._sha1.digest()}
        with self._turn:
            if any(found[name] != digest for name, digest in digests):
                self._undo()
                raise UploadError(
                    f"a piece of {self._file.name} was changed on its way",
                    "send the piece again",
                    Refusal.CHECKSUM,
                )
            self.keep()
            if self.offset == self._file.size:
                self._complete()
            return self.offset

    def keep(self) -> None:
        """Make sure that what came is on the disk.

        Raises:
            UploadError: the disk is full; the request is undone.
        """
        with self._turn:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self._undo()
                raise disk_full() from error
            self._upload.touch()

    def cut_off(self, data: bytes, at: int) -> None:
        """End a request that broke off: keep what came, and let nothing come after.

        Args:
            data: the last bytes that came; a thread may be writing them, or have written them.
            at: where they begin.

        Raises:
            UploadError: the disk is full.
        """
        with self._turn:
            if left := data[max(0, self.offset - at) :]:
                self.write(left)
            self.keep()
            self.close()

    def close(self) -> None:
        """Unlock; may be repeated."""
        with self._turn:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1  # nothing is written to what another file may become

    def _check_size(self, end: int) -> None:
        if end > self._file.size:
            self._undo()
            raise _too_large(f"{self._file.name} was announced with {self._file.size} bytes")
        if end - self._begin > self._settings.request_bytes:
            self._undo()
            raise _too_large(f"one request brings at most {self._settings.request_bytes} bytes")

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                count = os.pwrite(self._descriptor, view, self.offset)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                with suppress(UploadError):
                    self.keep()
                raise disk_full() from error
            self.offset += count
            view = view[count:]

    def _look_at_disk(self) -> None:
        if self.offset - self._looked_at < _LOOK_AT_DISK_EVERY:
            return
        self._looked_at = self.offset
        if free_bytes(self._part.parent) < self._settings.disk_floor_bytes:
            self.keep()
            raise disk_full()

    def _undo(self) -> None:
        os.ftruncate(self._descriptor, self._begin)
        self.offset = self._begin

    def _complete(self) -> None:
        """Compare the whole file, as the disk has it, with what was announced."""
        if _sha256(self._descriptor) != self._file.sha256:
            os.ftruncate(self._descriptor, 0)
            raise UploadError(
                f"{self._file.name} is not the file that was announced: its digest differs",
                "send the file again",
                Refusal.FILE_DIGEST,
            )
        self._part.rename(self._upload.bundle / self._file.name)
        _sync_folder(self._upload.bundle)


def free_bytes(folder: Path) -> int:
    """Bytes of the disk below ``folder`` that may be used."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def disk_full() -> UploadError:
    """The refusal of a disk that has no room; nothing that was acknowledged is lost."""
    return UploadError(
        "the hub's disk is full",
        "wait: it goes on when the operator has made room, and nothing sent so far is lost",
        Refusal.DISK_FULL,
    )


def wrong_offset(file: FileOffer, offset: int) -> UploadError:
    """The refusal of a piece that does not begin where the file ends."""
    return UploadError(
        f"{file.name} has {offset} bytes here, and the piece begins elsewhere",
        "ask for the offset and go on from there",
        Refusal.WRONG_OFFSET,
    )


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UploadError(
            f"another connection is sending {name}", "wait a moment, then go on", Refusal.LOCKED
        ) from error


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names what was opened: it moves when it becomes whole."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _sha256(descriptor: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(descriptor, _BLOCK, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _too_large(cause: str) -> UploadError:
    return UploadError(cause, "send what was announced, in smaller pieces", Refusal.TOO_LARGE)
