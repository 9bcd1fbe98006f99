"""From the network to the disk: the body of one request, block by block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import Request

from hub_server.uploads import Upload
from hub_server.web.state import HubState
from pixcell_share.errors import HubError, UploadError
from pixcell_share.wire import FileOffer, Refusal

T = TypeVar("T")
BLOCK_BYTES = 1 << 20
"""What is written at once; a connection holds no more in memory."""
TURN_S = 0.25
"""How long a connection is read before another has its turn."""


async def receive_request(
    request: Request,
    hub: HubState,
    upload: Upload,
    file: FileOffer,
    begin: int,
    digests: Sequence[tuple[str, bytes]],
) -> int:
    """Append a request's body to ``file``; returns the new offset.

    Args:
        request: whose body is still to be read.
        hub: the hub.
        upload: of the site that signed the request.
        file: one of its files.
        begin: where the request says that it begins.
        digests: what the body must have, by ``sha256`` or ``sha1``.

    Raises:
        UploadError: see `hub_server.uploads.Receiver`.
        HubError: the connection broke or stood still; what came is kept.
    """

    async def work(function: Callable[..., T], *words: Any) -> T:
        return await to_thread.run_sync(function, *words, limiter=hub.writers)

    receiver = await work(hub.uploads.receive, upload, file)
    body, at = _Body(request, hub.turns, hub.uploads.settings.stall_s), begin
    held = body.held
    try:
        receiver.expect(begin, sha1=any(name == "sha1" for name, _ in digests))
        while body.more:
            await body.read()
            if len(held) >= BLOCK_BYTES or not body.more:
                await work(receiver.write, bytes(held))
                at += len(held)
                held.clear()
        return await work(receiver.accept, digests)
    except UploadError:
        raise
    except HubError:
        await work(receiver.cut_off, bytes(held), at)
        raise
    except asyncio.CancelledError:
        receiver.cut_off(bytes(held), at)  # the hub stops: there is nobody to wait for
        raise
    finally:
        receiver.close()


class _Body:
    """A request's body, read in turns.

    Only so many connections are read at the same moment, each for a short while: a hundred that
    pour in at once would keep every page waiting for all of them. What a connection brings while it
    waits for its turn stays in the buffers of the system.
    """

    def __init__(self, request: Request, turns: asyncio.Semaphore, stall_s: float) -> None:
        self._request, self._turns, self._stall_s = request, turns, stall_s
        self._last_byte = time.monotonic()
        self.held = bytearray()
        """What came and is not written yet."""
        self.more = True

    async def read(self) -> None:
        """Read for one turn, at most a block.

        Raises:
            HubError: nothing came for too long, or the connection is gone.
        """
        async with self._turns:
            end = time.monotonic() + TURN_S
            while self.more and len(self.held) < BLOCK_BYTES:
                if (left := end - time.monotonic()) <= 0:
                    return
                await self._receive(left)

    async def _receive(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                message = await self._request.receive()
        except TimeoutError as error:
            if time.monotonic() - self._last_byte > self._stall_s:
                raise _broke_off() from error
            return
        if message["type"] == "http.disconnect":
            raise _broke_off()
        self.held += message.get("body", b"")
        self.more = message.get("more_body", False)
        self._last_byte = time.monotonic()


def _broke_off() -> HubError:
    return HubError("the request broke off", "ask for the offset and go on", Refusal.UNAVAILABLE)
