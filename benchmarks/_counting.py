"""A TCP relay on loopback that counts what passes, each way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Relay:
    """Passes everything on to one port of this machine."""

    target: int
    port: int = 0
    up: int = 0
    """Bytes towards the target."""
    down: int = 0
    connections: int = 0

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self._pass(reader, back, "up"), self._pass(there, writer, "down"))

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 18):
                setattr(self, way, getattr(self, way) + len(data))
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()


@contextmanager
def counting(target: int) -> Iterator[Relay]:
    """A relay in a thread of its own, until the block ends."""
    relay, loop = Relay(target), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(relay.join, "127.0.0.1", 0))
    relay.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
