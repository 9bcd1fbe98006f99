"""How long to go on trying: for ever, unless told otherwise."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pixcell_share.errors import HubError, HubUnreachableError
from pixcell_share.wire import Refusal

T = TypeVar("T")
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_WORTH_WAITING = {Refusal.LOCKED, Refusal.DISK_FULL, Refusal.TOO_MANY, Refusal.UNAVAILABLE}


class StoppedError(Exception):
    """The caller wants to stop; no failure."""


class Patience:
    """Waits longer after each failure in a row; any progress starts it anew.

    Args:
        give_up_after_s: without progress for so long, the failure is raised; None: never.
        stop: set by whoever wants to stop.
        on_waiting: told the reason before the first pause of a row.
    """

    def __init__(
        self,
        give_up_after_s: float | None,
        stop: threading.Event | None = None,
        on_waiting: Callable[[HubError], object] = lambda _: None,
    ) -> None:
        self._give_up_after_s, self._stop = give_up_after_s, stop or threading.Event()
        self._on_waiting = on_waiting
        self._failures = 0
        self._last_progress = time.monotonic()

    def progress(self) -> None:
        """Something went forward."""
        self._failures = 0
        self._last_progress = time.monotonic()

    def wait(self, error: HubError) -> None:
        """Pause after ``error``.

        Raises:
            HubError: ``error``, if it is not one that passes, or patience is at its end.
            StoppedError: the caller wants to stop.
        """
        if not passes(error):
            raise error
        without = time.monotonic() - self._last_progress
        if self._give_up_after_s is not None and without >= self._give_up_after_s:
            raise error
        if not self._failures:
            self._on_waiting(error)
        self._failures += 1
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
        # Jitter keeps fifty sites from coming back in the same moment.
        self.pause(longest * random.uniform(0.5, 1.0))

    def ask(self, question: Callable[[], T]) -> T:
        """``question`` until the hub answers; errors as of `wait`."""
        while True:
            try:
                return question()
            except HubError as error:
                self.wait(error)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the caller does.

        Raises:
            StoppedError: the caller wants to stop.
        """
        if self._stop.wait(seconds):
            raise StoppedError


def passes(error: HubError) -> bool:
    """Whether it is worth trying again without a change on this side."""
    return isinstance(error, HubUnreachableError) or error.reason in _WORTH_WAITING
