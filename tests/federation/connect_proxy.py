"""A hospital's way out: a proxy that passes TLS through (CONNECT), and may be gone for a while."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

_MAX_HEADER = 8192


@dataclass
class ConnectProxy:
    """Knows who was asked for, and cuts every connection at once."""

    asked: set[str] = field(default_factory=set)
    """Host and port of each CONNECT; the whole first line of anything else."""
    refused: int = 0
    """Connections while it was cut."""
    _open: set[socket.socket] = field(default_factory=set)
    _cut: bool = False
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        """As in ``HTTPS_PROXY``."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> ConnectProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections, and take no new ones."""
        self._cut = True
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Be there again."""
        self._cut = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut:
                    self.refused += 1
                    near.close()
                else:
                    threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        header = b""
        while not header.endswith(b"\r\n\r\n") and len(header) < _MAX_HEADER:
            if not (more := near.recv(1)):
                return
            header += more
        line = header.split(b"\r\n")[0].decode()
        method, target, *_ = line.split()
        self.asked.add(target if method == "CONNECT" else line)
        host, _, port = target.rpartition(":")
        try:
            far = socket.create_connection((host, int(port)))
        except (OSError, ValueError):
            near.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            near.close()
            return
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._open |= {near, far}
        threading.Thread(target=self._pass, args=(far, near), daemon=True).start()
        self._pass(near, far)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            self._open.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
