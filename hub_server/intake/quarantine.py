"""The folder ``quarantine``: bundles that are being looked at, each under a lock of its own.

::

    quarantine/<digest>/          the bundle's files, as they were sent
    quarantine/<digest>.json      what was found, once it is verified
    quarantine/<digest>.lock      locked (flock) while one process works on it
    quarantine/.<digest>.part/    a copy on its way
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcell_share.errors import StateError
from pixcell_share.files import atomic_write_bytes, canonical_json, storage_errors
from pixcell_share.wire import Refusal

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Quarantine:
    """The quarantine of a hub."""

    folder: Path

    def bundle(self, digest: str) -> Path:
        """Where the files of a bundle lie."""
        return self.folder / digest

    def part(self, digest: str) -> Path:
        """Where a copy is made, to be renamed when it is whole."""
        return self.folder / f".{digest}.part"

    def take(self, digest: str, source: Path) -> None:
        """Move a whole bundle in; done already where it was moved before.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        target = self.bundle(digest)
        with storage_errors(target):
            if source.exists():
                shutil.rmtree(target, ignore_errors=True)
                source.rename(target)
            _settle(self.folder)

    def write_findings(self, digest: str, findings: Any) -> None:
        """Keep what was found until the cohort is accepted."""
        atomic_write_bytes(self._findings(digest), canonical_json(findings))

    def read_findings(self, digest: str) -> Any:
        """What `write_findings` kept."""
        return json.loads(self._findings(digest).read_bytes())

    def clear(self, digest: str) -> None:
        """Delete what is left of a bundle."""
        for folder in (self.bundle(digest), self.part(digest)):
            shutil.rmtree(folder, ignore_errors=True)
        self._findings(digest).unlink(missing_ok=True)

    @contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Keep other processes from this bundle; the lock goes with its process.

        Raises:
            StateError: another process works on it.
        """
        path = self.folder / f"{digest}.lock"
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, path, digest)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def digests(self) -> list[str]:
        """Bundles that something is here of, be it only the lock of a process that was killed."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted({found[0] for path in paths if (found := _DIGEST.search(path.name))})

    def _findings(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"


def _lock(descriptor: int, path: Path, digest: str) -> None:
    """Lock the file, if it still has its name: whoever had it before may have removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise StateError(
        f"the bundle {digest[:16]} is being looked at by another process",
        "wait for it to end",
        Refusal.CONFLICT,
    )


def _settle(folder: Path) -> None:
    """Make sure that a new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
