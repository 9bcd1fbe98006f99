"""From the network to the disk: the body of one request, block by block."""

from __future__ import annotations

import asyncio
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
    held, at, more = bytearray(), begin, True
    try:
        receiver.expect(begin, sha1=any(name == "sha1" for name, _ in digests))
        while more:
            data, more = await _next(request, hub.uploads.settings.stall_s)
            held += data
            if len(held) >= BLOCK_BYTES or not more:
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


async def _next(request: Request, stall_s: float) -> tuple[bytes, bool]:
    """What comes next of a body, and whether there is more.

    Raises:
        HubError: nothing came for so long, or the connection is gone.
    """
    try:
        async with asyncio.timeout(stall_s):
            message = await request.receive()
    except TimeoutError as error:
        raise _broke_off() from error
    if message["type"] == "http.disconnect":
        raise _broke_off()
    return message.get("body", b""), message.get("more_body", False)


def _broke_off() -> HubError:
    return HubError("the request broke off", "ask for the offset and go on", Refusal.UNAVAILABLE)
