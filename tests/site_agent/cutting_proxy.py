"""A link between a site and a hub that breaks, or is slow: a small TCP proxy."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, as a broken link looks."""


@dataclass
class CuttingProxy:
    """Passes bytes on; of some connections only so many, then both ends are reset."""

    target: int
    """Port of the hub."""
    cut_after: Callable[[], int | None] = lambda: None
    """For each connection: bytes from the site before it is cut; None: never."""
    hang_s: float = 0.0
    """How long a connection stands still before it is cut."""
    pause_s: float = 0.0
    """After each block that is passed on."""
    cuts: int = 0
    connections: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=30)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=self._pass, args=(far, near, None), daemon=True)
        back.start()
        self._pass(near, far, self.cut_after())

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        with suppress(OSError):
            passed = 0
            while data := source.recv(1 << 16):
                if limit is not None and passed + len(data) > limit:
                    sink.sendall(data[: limit - passed])
                    self.cuts += 1
                    time.sleep(self.hang_s)
                    for end in (source, sink):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
                sink.sendall(data)
                passed += len(data)
                time.sleep(self.pause_s)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def some_cut(seed: int, share: float, most: int) -> Callable[[], int | None]:
    """Cut a ``share`` of the connections somewhere in their first ``most`` bytes."""
    chance = random.Random(seed)
    return lambda: chance.randrange(5_000, most) if chance.random() < share else None
