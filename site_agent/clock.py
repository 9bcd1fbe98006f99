"""Where the time goes: busy seconds and units of each kind of work, kept across resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from pixcell_share.files import atomic_write_text

T = TypeVar("T")


@dataclass
class Work:
    """Busy seconds spent on a number of units."""

    seconds: float = 0.0
    units: int = 0

    @property
    def rate(self) -> float:
        """Units a second; 0 where nothing was measured."""
        return self.units / self.seconds if self.seconds else 0.0


class Clock:
    """Busy time by kind of work. Reading runs beside embedding, so the sum may exceed the wall."""

    def __init__(self) -> None:
        self.work: dict[str, Work] = {}

    def add(self, kind: str, seconds: float, units: int) -> None:
        """Count ``units`` of ``kind`` that took ``seconds``."""
        work = self.work.setdefault(kind, Work())
        work.seconds += seconds
        work.units += units

    @contextmanager
    def measure(self, kind: str, units: int) -> Iterator[None]:
        """Time a block that does ``units`` of ``kind``."""
        began = time.perf_counter()
        yield
        self.add(kind, time.perf_counter() - began, units)

    def iterate(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """Yield from ``items``, timing only the waiting for each."""
        iterator = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(kind, time.perf_counter() - began, 1)
            yield item

    def save(self, path: Path) -> None:
        """Add this clock's work to what ``path`` holds, and start again at zero."""
        if not self.work:
            return
        for kind, work in load_times([path]).items():
            self.add(kind, work.seconds, work.units)
        values = {kind: asdict(work) for kind, work in sorted(self.work.items())}
        atomic_write_text(path, json.dumps(values, indent=2) + "\n")
        self.work = {}


def load_times(paths: Iterable[Path]) -> dict[str, Work]:
    """The summed work that earlier runs and parts have saved."""
    total = Clock()
    for path in paths:
        if path.exists():
            for kind, values in json.loads(path.read_text()).items():
                total.add(kind, values["seconds"], values["units"])
    return total.work
