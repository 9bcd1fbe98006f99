from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pixcell_share.prefetch import prefetch


def test_order_is_kept() -> None:
    assert list(prefetch(iter(range(100)), 4)) == list(range(100))


def test_an_error_comes_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("slide is damaged")

    items = prefetch(broken(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_it_reads_ahead_but_not_far() -> None:
    read = 0
    go = threading.Event()

    def counting() -> Iterator[int]:
        nonlocal read
        for number in range(1000):
            read += 1
            if read >= 5:
                go.set()
            yield number

    items = prefetch(counting(), 4)
    next(items)
    assert go.wait(10), "nothing was read ahead"
    assert read <= 7
    items.close()


def test_stopping_early_closes_the_source_and_ends_the_thread() -> None:
    closed = False

    def source() -> Iterator[int]:
        nonlocal closed
        try:
            yield from range(1000)
        finally:
            closed = True

    before = threading.active_count()
    items = prefetch(source(), 4)
    next(items)
    items.close()
    assert closed
    assert threading.active_count() == before
