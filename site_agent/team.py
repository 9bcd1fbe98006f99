"""Several threads that work through a list, and end together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Work = Callable[[T], None]
_LOOK_EVERY_S = 0.2


def work_through(
    items: Iterable[T], start: Callable[[threading.Event], Work[T]], threads: int
) -> None:
    """Do ``items`` in ``threads``; the first failure ends all, and is raised.

    Args:
        items: what there is to do.
        start: makes what one thread does with an item; given what is set when it should stop.
        threads: at most so many.
    """
    todo: queue.SimpleQueue[T] = queue.SimpleQueue()
    for count, item in enumerate(items, 1):
        todo.put(item)
        threads = min(threads, count)
    failures: list[BaseException] = []
    stop = threading.Event()

    def run() -> None:
        try:
            work = start(stop)
            with suppress(queue.Empty):
                while not stop.is_set():
                    work(todo.get_nowait())
        except BaseException as failure:
            failures.append(failure)
            stop.set()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():  # a join without a limit would not hear Ctrl-C
                worker.join(_LOOK_EVERY_S)
    finally:
        stop.set()
    if failures:
        raise failures[0]
