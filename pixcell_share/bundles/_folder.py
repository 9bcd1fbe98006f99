"""A stranger's folder: plain files only, opened so that nothing changes places meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pixcell_share.bundles._preview import MAX_PREVIEW_BYTES
from pixcell_share.bundles.faults import Fault
from pixcell_share.bundles.limits import MAX_SHARD_BYTES
from pixcell_share.errors import DigestError, FormatError

Identity = tuple[int, ...]
"""Device, inode, size and times of an open file: what changes when its bytes do."""
RESEND = "ask the site to send the bundle again"
_BLOCK = 1 << 20
_HASHED_AT_ONCE = min(4, os.cpu_count() or 1)


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """The folder itself, so that nothing changes places while it is checked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        cause = f"the bundle cannot be opened as a folder: {error.strerror}"
        raise FormatError(cause, "check the path", Fault.NOT_A_FOLDER) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened(directory: int, name: str) -> Iterator[int]:
    """A plain file of the folder, never through a link, never waiting for a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError as error:
        raise DigestError(f"{shown(name)} is missing", RESEND, Fault.FILE_MISSING) from error
    except OSError as error:
        linked = error.errno == errno.ELOOP  # as O_NOFOLLOW says it
        fault = Fault.NOT_A_PLAIN_FILE if linked else Fault.FILE_UNREADABLE
        why = "it is a symbolic link" if linked else error.strerror
        raise DigestError(f"{shown(name)} cannot be read: {why}", RESEND, fault) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            cause = f"{shown(name)} is not a plain file"
            raise DigestError(cause, RESEND, Fault.NOT_A_PLAIN_FILE)
        yield descriptor
    finally:
        os.close(descriptor)


def list_plain_files(directory: int) -> dict[str, int]:
    """Size in bytes of each file by name.

    Raises:
        DigestError: something is a link, a folder, or a special file.
    """
    sizes = {}
    for entry in os.scandir(directory):
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}
            kind = kinds.get(stat.S_IFMT(found.st_mode), "a special file")
            cause = f"{shown(entry.name)} is {kind}, and a bundle holds plain files only"
            raise DigestError(cause, RESEND, Fault.NOT_A_PLAIN_FILE)
        sizes[entry.name] = found.st_size
    return sizes


def check_files(
    directory: int,
    files: dict[str, str],
    beside: str,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> dict[str, Identity]:
    """Compare the folder with a signed list, several files at a time.

    Args:
        directory: the open folder.
        files: SHA-256 by name.
        beside: the one file that may be there without being in the list.
        on_bytes: told the number of bytes after each block; from several threads.

    Returns:
        The identity of each file as it was hashed.

    Raises:
        DigestError: a file is missing, extra, changed, or not plain; the first by name.
        FormatError: a file is larger than its kind may be.
    """
    present = list_plain_files(directory).keys()
    if missing := sorted(files.keys() - present):
        raise DigestError(f"{shown(missing[0])} is missing", RESEND, Fault.FILE_MISSING)
    if extra := sorted(present - files.keys() - {beside}):
        cause = f"{shown(extra[0])} is not in the signed list of files"
        remedy = "remove it if you put it there, else do not use the bundle"
        raise DigestError(cause, remedy, Fault.FILE_EXTRA)

    def check(name: str) -> Identity:
        return _check_file(directory, name, files[name], on_bytes)

    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        try:
            return dict(zip(files, pool.map(check, files), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)


def read_small(directory: int, name: str, limit: int) -> bytes:
    """A whole file of at most ``limit`` bytes."""
    with opened(directory, name) as descriptor:
        data = bytearray()
        while block := os.read(descriptor, limit + 1 - len(data)):
            data += block
    if len(data) > limit:
        raise _too_large(name, limit)
    return bytes(data)


def identity(descriptor: int) -> Identity:
    """What to compare later, to see that an open file is still the same."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def shown(name: str) -> str:
    """A stranger's file name, without control characters or look-alikes."""
    return ascii(name)[1:-1][:100]


def size_limit(name: str) -> int:
    """The most bytes that a file of this name may have."""
    return MAX_SHARD_BYTES if name.endswith(".h5") else MAX_PREVIEW_BYTES


def _check_file(
    directory: int, name: str, expected: str, on_bytes: Callable[[int], object]
) -> Identity:
    with opened(directory, name) as descriptor:
        if os.fstat(descriptor).st_size > size_limit(name):
            raise _too_large(name, size_limit(name))
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        while count := os.readv(descriptor, [block]):
            digest.update(block[:count])
            on_bytes(count)
        if digest.hexdigest() != expected:
            cause = f"{shown(name)} differs from its signed digest"
            raise DigestError(cause, RESEND, Fault.DIGEST_WRONG)
        return identity(descriptor)


def _too_large(name: str, limit: int) -> FormatError:
    return FormatError(
        f"{shown(name)} is larger than {limit} bytes",
        "do not use the bundle, and ask the site to write it again",
        Fault.FILE_TOO_LARGE,
    )
