"""Each signed request counts once."""

from __future__ import annotations

import threading
from collections import deque

from pixcell_share.errors import HubError
from pixcell_share.wire import CREATED_WINDOW_S, Refusal


class Nonces:
    """Nonces of the signatures that were accepted, for as long as their time would be.

    Kept in memory. After a restart of the hub a request could be repeated within the window by
    somebody who broke TLS; every request of a site is such that a repetition changes nothing.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._order: deque[tuple[float, tuple[str, str]]] = deque()
        self._lock = threading.Lock()

    def use(self, key_id: str, nonce: str, now: float) -> None:
        """Note a nonce whose signature holds.

        Raises:
            HubError: it was used before.
        """
        with self._lock:
            while self._order and self._order[0][0] < now - 2 * CREATED_WINDOW_S:
                self._seen.discard(self._order.popleft()[1])
            if (key_id, nonce) in self._seen:
                raise HubError(
                    "this request was received before",
                    "send it with a new signature",
                    Refusal.REPLAY,
                )
            self._seen.add((key_id, nonce))
            self._order.append((now, (key_id, nonce)))
