"""Read ahead in a thread, so that decoding tiles runs beside the encoder."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _End(Generic[T]):
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``items`` in order, with up to ``depth`` of them read ahead.

    An error of ``items`` is raised here, in its place. When the consumer stops early, the
    thread stops too and ``items`` is closed before the consumer goes on.
    """
    queue: Queue[T | _End[T]] = Queue(depth)
    stop = Event()

    def read() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                queue.put(item)
                if stop.is_set():
                    break
            if isinstance(iterator, Generator):
                iterator.close()
        except BaseException as caught:
            error = caught
        queue.put(_End(error))

    thread = Thread(target=read, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        while thread.is_alive():
            try:
                queue.get(timeout=0.05)
            except Empty:
                continue
        thread.join()
