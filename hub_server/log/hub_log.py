"""The hub's log of acts: append, read, and mend what a crash left.

An act is on the disk before the checkpoint counts it. A crash in between leaves a line beyond the
checkpoint: whole, it is taken over; cut short, it is moved to ``torn/``. Either way the log gets an
act ``log.mend`` that says so. Adding an act costs O(log n): the checkpoint holds the frontier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from hub_server.log.act import REMEDY, Act, line_digest, read_act
from hub_server.log.checkpoint import Checkpoint, read_checkpoint
from hub_server.log.files import LogFiles
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubLogError


class HubLog:
    """The log, for processes and threads at once.

    Args:
        folder: made with mode 0700 if needed.
        key: the hub's.
    """

    def __init__(self, folder: Path, key: SiteKey) -> None:
        self._files = LogFiles(folder)
        self._key = key

    def append(
        self, act: str, *, actor: str, subject: str, details: Mapping[str, Any] | None = None
    ) -> Act:
        """Write down an act; it is on the disk and signed for when this returns.

        Say it before the unit of work that does it commits: an act that was logged and then not
        done misleads nobody for long, one that was done and not logged is hidden.

        Args:
            act: what, such as ``site.admit``.
            actor: who, such as ``account:anna``.
            subject: to whom or what.
            details: what else an auditor wants to know, as JSON.

        Raises:
            HubLogError: the files are not what this hub wrote.
            StorageError: the disk is full; the log is as it was.
        """
        with self._files.locked():
            return self._add(self._mended(), act, actor, subject, details or {})[0]

    def mend(self) -> None:
        """Mend what a crash left, and start a log that is not there; the hub's first step.

        Raises:
            HubLogError: the files are not what this hub wrote.
        """
        with self._files.locked():
            self._mended()

    def checkpoint(self) -> bytes:
        """The latest signed checkpoint: what an auditor keeps to find a later change.

        Raises:
            HubLogError: the files are not what this hub wrote.
        """
        with self._files.locked():
            return self._mended().sign(self._key)

    def latest(self, count: int, before: int | None = None) -> list[Act]:
        """Acts, the latest first.

        Args:
            count: how many at most.
            before: only acts of a lower sequence number; all, if it is None.

        Raises:
            HubLogError: the files are not what this hub wrote.
        """
        return [read_act(line, number) for number, line in islice(self.lines(before), count)]

    def lines(self, before: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Number and line of each act, the latest first; `read_act` reads a line.

        Args:
            before: only acts of a lower sequence number; all, if it is None.

        Raises:
            HubLogError: the files are not what this hub wrote.
        """
        with self._files.locked():
            mark = self._mended()
        for place, line in enumerate(self._files.lines_before(mark.length)):
            if before is None or mark.size - place < before:
                yield mark.size - place, line

    def _add(
        self, mark: Checkpoint, act: str, actor: str, subject: str, details: Mapping[str, Any]
    ) -> tuple[Act, Checkpoint]:
        time = max(datetime.now(UTC), mark.time)  # a clock set back does not turn the log around
        entry = Act(mark.size + 1, mark.last, time, actor, act, subject, dict(details))
        line = entry.to_line()
        self._files.append(line)
        mark = mark.after(line, time)
        self._files.write_checkpoint(mark.sign(self._key))
        return entry, mark

    def _mended(self) -> Checkpoint:
        """Where the log stands, all that a crash left counted or moved away."""
        mark, size = self._read_checkpoint(), self._files.size()
        if mark is None:
            if size:
                raise HubLogError("the log has acts and no checkpoint", REMEDY)
            mark = Checkpoint.empty(self._key.public, datetime.now(UTC))
            self._files.write_checkpoint(mark.sign(self._key))
        self._check_end(mark, size)
        return mark if size == mark.length else self._take_over(mark, size)

    def _read_checkpoint(self) -> Checkpoint | None:
        path = self._files.checkpoint
        return read_checkpoint(path.read_bytes(), self._key.public) if path.exists() else None

    def _check_end(self, mark: Checkpoint, size: int) -> None:
        if size < mark.length:
            raise HubLogError(
                f"the log has {size} bytes and its checkpoint says {mark.length}: it was cut or "
                "rolled back",
                REMEDY,
            )
        last = next(self._files.lines_before(mark.length), None)
        if last is not None and line_digest(last) != mark.last:
            raise HubLogError(f"act {mark.size} of the log is not the checkpoint's", REMEDY)

    def _take_over(self, mark: Checkpoint, size: int) -> Checkpoint:
        tail = self._files.read(mark.length, size)
        *whole, _ = tail.split(b"\n")
        begin = mark
        for line in whole:
            try:
                act = read_act(line, mark.size + 1)
            except HubLogError:
                break  # a power cut can leave a line of zeros, with others behind it
            if act.previous != mark.last:
                break
            mark = mark.after(line, act.time)
        torn = tail[mark.length - begin.length :]
        if torn:
            self._files.cut(mark.length, line_digest(torn))
        details: dict[str, Any] = {"kept_acts": mark.size - begin.size, "torn_bytes": len(torn)}
        if torn:
            details |= {"torn_sha256": line_digest(torn)}
        return self._add(mark, "log.mend", "hub", "log", details)[1]
