"""What became of every slide or picture: one line each, so that no slide is surveyed twice.

``survey.jsonl`` lies in the store and says afterwards what was left out, and why. Two kinds of
lines: what was found in an entry, and which of its regions were lost when they were read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from pixcell_share.errors import DataError
from pixcell_share.training.latents.entries import Corners, Entry, Survey

_FILE = "survey.jsonl"
_WORTH_ANOTHER_TRY = {"unreadable", "unexpected"}
"""A share that was away or a file still being copied may be readable now."""


@dataclass
class Known:
    """What is known of one entry."""

    corners: Corners
    """int64 (N, 2) of all regions found."""
    counts: dict[str, int] = field(default_factory=dict)
    reason: dict[str, str] | None = None
    """Code, cause and remedy of the error that left it out, or regions of it."""
    lost: set[int] = field(default_factory=set)
    """Regions, by their number, that could not be read later."""

    @property
    def usable(self) -> int:
        """Regions that can be stored."""
        return len(self.corners) - len(self.lost)


class Journal:
    """The lines of ``survey.jsonl``, read and appended to.

    Args:
        folder: of the store.
        try_again: forget entries that could not be read; only while no shard is whole, as they
            would move all rows behind them.

    Raises:
        DataError: a line is damaged.
    """

    def __init__(self, folder: Path, *, try_again: bool) -> None:
        self._path = folder / _FILE
        self._known: dict[str, Known] = {}
        self._read()
        if try_again:
            self._known = {n: k for n, k in self._known.items() if not _worth_another_try(k)}
        self._stream = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def __contains__(self, entry: Entry) -> bool:
        return entry.name in self._known

    def __getitem__(self, entry: Entry) -> Known:
        return self._known[entry.name]

    def found(self, entry: Entry, survey: Survey) -> None:
        """The regions of an entry."""
        self._append({"entry": entry.name, "corners": survey.corners.tolist(),
                      "counts": survey.counts, "reason": None})  # fmt: skip

    def left_out(self, entry: Entry, reason: dict[str, str]) -> None:
        """An entry that gives nothing."""
        self._append({"entry": entry.name, "corners": [], "counts": {}, "reason": reason})

    def lost(self, entry: Entry, regions: list[int], reason: dict[str, str]) -> None:
        """Regions that could not be read; on the disk before any row behind them."""
        self._append({"entry": entry.name, "lost": regions, "reason": reason})
        os.fsync(self._stream.fileno())

    def _append(self, line: dict[str, Any]) -> None:
        self._take(line)
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _take(self, line: dict[str, Any]) -> None:
        if "lost" in line:
            known = self._known[line["entry"]]
            known.lost |= set(line["lost"])
            known.reason = line["reason"]
            return
        corners = np.array(line["corners"], np.int64).reshape(-1, 2)
        self._known[line["entry"]] = Known(corners, line["counts"], line["reason"])

    def _read(self) -> None:
        """Take every whole line; a last one without its end was never acted upon."""
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        if torn:
            os.truncate(self._path, len(text.encode()) - len(torn.encode()))
        for number, line in enumerate(whole.splitlines() if whole else [], 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self._path}, line {number} is damaged: {error!r}", "make the store again"
                ) from error


def forget_journal(folder: Path) -> None:
    """Remove what is known of the entries of a store."""
    (folder / _FILE).unlink(missing_ok=True)


def _worth_another_try(known: Known) -> bool:
    return known.reason is not None and known.reason["code"] in _WORTH_ANOTHER_TRY
