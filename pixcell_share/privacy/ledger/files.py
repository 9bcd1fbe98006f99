"""The ledger's files: append one line, then say so in the head; mend what a crash left.

::

    ledger.jsonl    the entries, one a line; only ever appended to
    ledger.head     signed number and digest of the last entry; replaced in one step
    ledger.lock     locked (flock) while one process reads and appends

An append is on the disk before the head names it. A crash in between leaves a line beyond the
head: whole and valid, it is taken over, so that what was spent stays spent; cut short, it is
removed, since nothing was signed on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.bundles import PublicKey, SiteKey
from pixcell_share.errors import LedgerError
from pixcell_share.files import canonical_json, exclusive, storage_errors
from pixcell_share.privacy.ledger.entry import (
    HEAD_DOMAIN,
    REMEDY,
    UNREADABLE,
    Entry,
    genesis,
    line_digest,
    read_line,
)


@dataclass(frozen=True)
class Mark:
    """A place in the ledger: everything up to it is fixed by the digest."""

    sequence: int
    """Number of the entry; 0 before the first."""
    digest: str
    """SHA-256 of its line."""


@dataclass(frozen=True)
class Stored:
    """What the files hold."""

    entries: tuple[Entry, ...]
    digests: tuple[str, ...]
    """Of each entry's line, after that of `genesis`: one more than there are entries."""
    notes: tuple[str, ...] = ()
    """What was mended, in plain words."""

    @property
    def mark(self) -> Mark:
        """The last entry."""
        return Mark(len(self.entries), self.digests[-1])


class LedgerFiles:
    """Reads and appends, one process at a time.

    Args:
        folder: made with mode 0700 if needed.
        key: signs and checks.
    """

    def __init__(self, folder: Path, key: SiteKey) -> None:
        self._folder = folder
        self._key = key
        self._lines = folder / "ledger.jsonl"
        self._head = folder / "ledger.head"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes, then keep them out."""
        with exclusive(self._folder / "ledger.lock"):
            yield

    def read(self) -> Stored:
        """All entries, after mending what a crash left. Call it under `locked`.

        Raises:
            LedgerError: the files are not what this site wrote.
        """
        head, data = self._read_head(), self._read_lines()
        if head is None and data:
            raise LedgerError("the ledger has entries and no head", REMEDY)
        head = head or Mark(0, genesis(self._key.public))
        *whole, torn = data.split(b"\n")
        if len(whole) > head.sequence and b"\0" in whole[-1]:  # a power cut while it was written
            torn = whole.pop() + b"\n" + torn
        stored = _chained(whole, self._key.public)
        _check_head(stored, head)
        return self._mended(stored, head, len(data) - len(torn) if torn else None)

    def append(self, stored: Stored, entry: Entry) -> Mark:
        """Write ``entry`` behind ``stored``, which `read` gave under the same lock.

        Raises:
            StorageError: the disk is full; the ledger is as it was.
        """
        line = entry.to_line(self._key)
        with storage_errors(self._lines):
            if not stored.entries:  # so that entries without a head are never a crash's work
                self._write_head(stored.mark)
            self._append_line(line)
            mark = Mark(entry.sequence, line_digest(line[:-1]))
            self._write_head(mark)
        return mark

    def _mended(self, stored: Stored, head: Mark, cut: int | None) -> Stored:
        """Bring file and head to what is whole: ``cut`` is where the whole lines end."""
        notes = []
        if cut is not None:
            self._cut(cut)
            notes.append("a line that a crash cut short was removed: nothing was signed on it")
        if len(stored.entries) > head.sequence:
            with storage_errors(self._head):
                self._write_head(stored.mark)
            notes.append("an entry that a crash left unconfirmed counts as spent")
        return Stored(stored.entries, stored.digests, tuple(notes))

    def _read_lines(self) -> bytes:
        with storage_errors(self._lines):
            return self._lines.read_bytes() if self._lines.exists() else b""

    def _read_head(self) -> Mark | None:
        with storage_errors(self._head):
            if not self._head.exists():
                return None
            data = self._head.read_bytes()
        try:
            values = json.loads(data)
            signature = bytes.fromhex(values.pop("signature"))
            mark, signed = Mark(**values), HEAD_DOMAIN + canonical_json(values)
        except UNREADABLE as error:
            raise LedgerError("the head of the ledger cannot be read", REMEDY) from error
        if not self._key.public.verifies(signature, signed):
            raise LedgerError(
                "the head of the ledger was edited, or was signed by another key", REMEDY
            )
        return mark

    def _write_head(self, mark: Mark) -> None:
        values = vars(mark)
        signature = self._key.sign(HEAD_DOMAIN + canonical_json(values)).hex()
        part = self._folder / ".ledger.head.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(descriptor, canonical_json(values | {"signature": signature}))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(self._head)
        self._settle_folder()

    def _append_line(self, line: bytes) -> None:
        descriptor = os.open(self._lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, line)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)
        self._settle_folder()

    def _cut(self, size: int) -> None:
        with storage_errors(self._lines):
            descriptor = os.open(self._lines, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _settle_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _chained(lines: list[bytes], key: PublicKey) -> Stored:
    """Every line, if each is signed and follows the one before."""
    entries: list[Entry] = []
    digests = [genesis(key)]
    for number, line in enumerate(lines, 1):
        entry = read_line(line, number, key)
        if entry.sequence != number or entry.previous != digests[-1]:
            raise LedgerError(f"line {number} of the ledger does not follow the one before", REMEDY)
        entries.append(entry)
        digests.append(line_digest(line))
    return Stored(tuple(entries), tuple(digests))


def _check_head(stored: Stored, head: Mark) -> None:
    if len(stored.entries) < head.sequence:
        raise LedgerError(
            f"the ledger ends with entry {len(stored.entries)}, and its head says "
            f"{head.sequence}: it was cut or rolled back",
            REMEDY,
        )
    if stored.digests[head.sequence] != head.digest:
        raise LedgerError(f"entry {head.sequence} of the ledger is not its head's", REMEDY)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
