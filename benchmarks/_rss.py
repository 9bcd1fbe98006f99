"""Resident memory of the processes that this one started, by role, over time."""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_EVERY_S = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Looks every two seconds, in a thread, while it is entered.

    Args:
        roles: a word of the command line for each; the first that fits counts.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self.roles = roles
        self._seen: list[tuple[float, dict[str, int]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def medians(self, role: str, moments: Sequence[float]) -> list[float]:
        """MiB between each two moments, of the role's processes together."""
        found = []
        for begin, end in itertools.pairwise(moments):
            inside = [each[role] for when, each in self._seen if begin <= when < end]
            found.append(round(statistics.median(inside) / 2**20, 1) if inside else float("nan"))
        return found

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._seen.append((time.time(), self._look()))

    def _look(self) -> dict[str, int]:
        parents, words = {}, {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                number = int(process.name)
                parents[number] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                words[number] = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
        found: dict[str, int] = defaultdict(int)
        for number, text in words.items():
            role = next((name for name, word in self.roles.items() if word in text), None)
            if role is not None and _descends(number, os.getpid(), parents):
                found[role] += _resident(number)
        return found


def slope(values: Sequence[float], warm_up: int) -> float:
    """Of a line through the values after the first ``warm_up``, per value."""
    kept = values[warm_up:]
    return round(float(np.polyfit(range(len(kept)), kept, 1)[0]), 3)


def _descends(number: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while number in parents:
        number = parents[number]
        if number == ancestor:
            return True
    return False


def _resident(number: int) -> int:
    try:
        return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
