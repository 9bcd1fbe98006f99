"""How often something may be tried: guessing a password or a code has to be slow."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

_MOST_KEYS = 10_000


@dataclass(frozen=True)
class Rate:
    """``tries`` within ``seconds``."""

    tries: int
    seconds: float


class Throttle:
    """Counts tries by key, such as an address; kept in memory, forgotten at a restart."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: str) -> None:
        """Refuse if there were too many tries.

        Raises:
            HubError: so many, too many.
        """
        with self._lock:
            tries = self._recent(key)
            if len(tries) >= self._rate.tries:
                wait = tries[0] + self._rate.seconds - self._clock()
                raise HubError(
                    "too many tries", f"try again in {max(1, round(wait))} s", Refusal.TOO_MANY
                )

    def count(self, key: str) -> None:
        """Note a try."""
        with self._lock:
            self._recent(key).append(self._clock())

    def forget(self, key: str) -> None:
        """A try succeeded."""
        with self._lock:
            self._tries.pop(key, None)

    def _recent(self, key: str) -> deque[float]:
        tries = self._tries.setdefault(key, deque())
        self._tries.move_to_end(key)
        while tries and tries[0] <= self._clock() - self._rate.seconds:
            tries.popleft()
        while len(self._tries) > _MOST_KEYS:
            self._tries.popitem(last=False)
        return tries
