"""What nobody foresaw: a plain answer, and a log line that names modules, not folders."""

from __future__ import annotations

import logging
import traceback

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_server.web.errors import error_response
from pixcell_share.errors import HubError, PixcellError
from pixcell_share.wire import Refusal

_log = logging.getLogger(__name__)


class Failures:
    """Catches what no handler of the app did."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ``app`` does, or with 503 where it failed before it answered."""
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http":
                raise
            _log.error("%s %s: %s", scope["method"], scope["path"], describe(error))
            if not started:
                await error_response(failed())(scope, receive, send)


def failed() -> HubError:
    """What somebody outside is told of a fault of the hub."""
    return HubError(
        "the hub failed, and noted it in its log",
        "try again; if it stays so, tell the hub's operator",
        Refusal.UNAVAILABLE,
    )


def describe(error: BaseException) -> str:
    """An exception and the places it went through: modules and lines, no paths."""
    places = [
        f"{frame.f_globals.get('__name__', '?')}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return f"{type(error).__name__} at {' > '.join(places[-6:])}"


def plain_cause(error: PixcellError) -> str:
    """The cause of an error of the hub's own, without a folder of this machine."""
    return "a file of the hub cannot be used" if "/" in error.cause else error.cause
