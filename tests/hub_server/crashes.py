"""A child process that dies where a test wants it to."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

DONE, FAILED = 0, 1


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = FAILED
        try:
            work()
            status = DONE
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed_after(work: Callable[[], object], seconds: float) -> int:
    """The same; it is killed (SIGKILL) after some time, if it is not done by then."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(DONE)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def die_after(monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Any, str]], count: int) -> None:
    """Let this process kill itself when ``count`` calls of any of the steps were done."""
    left = [count]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in steps:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def limit_files(size: int) -> None:
    """No file of this process can grow beyond ``size`` bytes: what a full disk looks like."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
