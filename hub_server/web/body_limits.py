"""No request brings more than its route may take, whatever its ``Content-Length`` says."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_server.web.errors import error_response
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

SMALL_BYTES = 64 << 10
"""Enough for every document that people and sites send, save the list of a bundle's files."""


class BodyLimits:
    """Counts the bytes of each request.

    Args:
        app: what comes after.
        limit_for: the limit of a method and a path, in bytes.
    """

    def __init__(self, app: ASGIApp, limit_for: Callable[[str, str], int]) -> None:
        self._app, self._limit_for = app, limit_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what is announced too large, and count the rest as it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_for(scope["method"], scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await error_response(_too_large(limit))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


def _too_large(limit: int) -> HubError:
    return HubError(
        f"the request is larger than {limit} bytes", "send less at once", Refusal.TOO_LARGE
    )
