"""Write files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixcell_share.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a `StorageError` that names ``path``."""
    try:
        yield
    except OSError as error:
        number = error.errno or _number_in(str(error))
        if number in _FULL:
            raise StorageError(
                f"the disk is full while writing {path.name}",
                "free some space, then run the same command again: finished work is kept",
            ) from error
        if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StorageError(
                f"{path} cannot be written", "choose another folder, or change its permissions"
            ) from error
        raise


def _number_in(message: str) -> int:
    """The error number that HDF5 puts into its message instead of into the exception."""
    found = re.search(r"errno = (\d+)", message)
    return int(found[1]) if found else 0


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it replaces ``path`` if the block succeeds.

    The data is on the disk before the name changes, so that a power cut leaves no empty file.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Wait for others, in this process or another, then keep them out.

    Args:
        lock: file that is locked (flock); it and its folder are made for their owner alone.

    Raises:
        StorageError: it cannot be made.
    """
    with storage_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` in one step."""
    atomic_write_bytes(path, text.encode())


def canonical_json(value: Any) -> bytes:
    """``value`` as JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
