"""What a person sees while a run is going on: one view, with rates and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int], None]


class View(Protocol):
    """Somewhere to show how a run goes."""

    def stage(
        self, name: str, total: int, unit: str, done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Show a stage of ``total`` units, of which ``done`` were finished by an earlier run."""

    def say(self, text: str) -> None:
        """Show one line."""


class _RateColumn(ProgressColumn):
    """Units a second, once there is something to divide by."""

    def render(self, task: Task) -> Text:
        """The rate of ``task`` as text."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:7.1f}/s" if speed else "", style="progress.data.speed")


class LiveView:
    """Bars in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            _RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            speed_estimate_period=60,
        )

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """A bar for one stage."""
        task = self._bars.add_task(name, total=total, unit=unit, completed=done)
        yield lambda count: self._bars.advance(task, count)

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(text, highlight=False)


class LineView:
    """Plain lines on standard error, for a log file or a pipe; at most one in ten seconds."""

    _EVERY_S = 10.0

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    @contextmanager
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """A line when the stage starts, now and then, and when it ends."""
        began = last = time.monotonic()
        count = done
        if done:
            self.say(f"{name}: {done} of {total} {unit} were done before")

        def advance(more: int) -> None:
            nonlocal count, last
            count += more
            now = time.monotonic()
            if now - last >= self._EVERY_S:
                last = now
                rate = (count - done) / (now - began)
                left = (total - count) / rate if rate else 0.0
                self.say(f"{name}: {count}/{total} {unit}, {rate:.1f}/s, {left:.0f} s left")

        yield advance
        if count > done:
            seconds = time.monotonic() - began
            self.say(f"{name}: {count}/{total} {unit} in {seconds:.1f} s")

    def say(self, text: str) -> None:
        """One line."""
        print(text, file=sys.stderr, flush=True)


def choose_view() -> LiveView | LineView:
    """Bars where standard error is a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return LiveView(console) if console.is_terminal else LineView()
