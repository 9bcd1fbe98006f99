"""A TCP proxy on loopback that cuts a share of its connections at random; run as a process.

    python benchmarks/_cutting.py TARGET_PORT SHARE MOST_BYTES SEED

Prints its port; at the end of its standard input it prints how many connections it had and cut.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress


class Proxy:
    """Counts what it does."""

    def __init__(self, target: int, share: float, most: int, seed: int) -> None:
        self._target, self._share, self._most = target, share, most
        self._chance = random.Random(seed)
        self.connections = self.cuts = 0

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        cut = self._chance.random() < self._share
        limit = self._chance.randrange(10_000, self._most) if cut else None
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                self._pass(reader, back, limit, writer), self._pass(there, writer, None, back)
            )

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        limit: int | None,
        other: asyncio.StreamWriter,
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := await source.read(1 << 18):
                passed += len(data)
                if limit is not None and passed > limit:
                    self.cuts += 1
                    for end in (sink, other):
                        end.transport.abort()
                    return
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()


async def main() -> None:
    target, most, seed = int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    proxy = Proxy(target, float(sys.argv[2]), most, seed)
    server = await asyncio.start_server(proxy.join, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(proxy.connections, proxy.cuts, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
