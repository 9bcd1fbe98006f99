"""From the network to the disk: the body of one request, block by block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from anyio import to_thread
from fastapi import Request
from starlette.types import Message

from hub_server.uploads import Upload
from hub_server.web.state import HubState
from pixcell_share.errors import HubError, UploadError
from pixcell_share.wire import FileOffer, Refusal

T = TypeVar("T")
BLOCK_BYTES = 1 << 20
"""What is written at once; a connection holds no more in memory."""


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

    async def work(function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=hub.writers)

    receiver = await work(lambda: hub.uploads.receive(upload, file))
    try:
        receiver.expect(begin, sha1=any(name == "sha1" for name, _ in digests))
        try:
            async for block in _blocks(request, hub.uploads.settings.stall_s):
                await work(lambda data=block: receiver.write(data))  # type: ignore[misc]
        except UploadError:
            raise
        except BaseException:  # also that the hub stops, which cancels this task
            await work(receiver.keep)
            raise
        return await work(lambda: receiver.accept(digests))
    finally:
        receiver.close()


async def _blocks(request: Request, stall_s: float) -> AsyncIterator[bytes]:
    """The body in blocks; what came before a fault is given out before it is raised."""
    held = bytearray()
    more = True
    while more:
        message = await _next_message(request, stall_s)
        if broken := message is None or message["type"] == "http.disconnect":
            break
        held += message.get("body", b"")
        more = message.get("more_body", False)
        if len(held) >= BLOCK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
    if broken:
        raise HubError("the request broke off", "ask for the offset and go on", Refusal.UNAVAILABLE)


async def _next_message(request: Request, stall_s: float) -> Message | None:
    """What comes next; nothing if nothing comes for so long."""
    try:
        async with asyncio.timeout(stall_s):
            return await request.receive()
    except TimeoutError:
        return None
