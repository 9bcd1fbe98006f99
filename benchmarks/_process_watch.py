"""Resident memory and processor time of the processes that this one started, by role."""

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

_EVERY_S = 0.5
_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM, _BEGAN = 1, 11, 12, 19
"""Places in ``/proc/PID/stat`` (proc(5)), counted from the state."""


class ProcessWatch:
    """Looks twice a second, in a thread, while it is entered.

    Args:
        roles: a word of the command line for each; the first that fits counts.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self.roles = roles
        self._seen: list[tuple[float, dict[str, int]]] = []
        self._ticks: dict[tuple[int, str], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def processor_s(self) -> float:
        """Of all these processes; the last half second of each is not seen."""
        return sum(self._ticks.values()) / _TICK

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
        stats, words = {}, {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                words[int(process.name)] = (
                    (process / "cmdline").read_bytes().decode("utf-8", "replace")
                )
            except OSError:
                continue
            stats[int(process.name)] = stat
        parents = {number: int(stat[_PARENT]) for number, stat in stats.items()}
        found: dict[str, int] = defaultdict(int)
        for number, text in words.items():
            role = next((name for name, word in self.roles.items() if word in text), None)
            if role is not None and _descends(number, os.getpid(), parents):
                stat = stats[number]
                found[role] += _resident(number)
                self._ticks[number, stat[_BEGAN]] = int(stat[_USER]) + int(stat[_SYSTEM])
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
