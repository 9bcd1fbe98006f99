"""Errors as answers: the plain cause and what to do next, and no word about this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pixcell_share.errors import (
    DatabaseError,
    HubError,
    NotFoundError,
    PixcellError,
    StateError,
    StorageError,
)
from pixcell_share.wire import Refusal

ErrorPage = Callable[[Request, HubError], Awaitable[Response]]
"""Shows an error to a person; `hub_server.web.pages` has one."""

_HTTP = {
    404: (Refusal.NOT_FOUND, "there is nothing at this address", "check the address"),
    405: (Refusal.MALFORMED, "the method is not offered here", "see the API's document"),
}


def error_response(error: HubError) -> JSONResponse:
    """An error as the API answers with it."""
    reason = refusal_of(error)
    headers = {"Retry-After": "5"} if reason in _WORTH_WAITING else {}
    if reason in _WITH_UNREAD_BODY:
        headers["Connection"] = "close"
    return JSONResponse({"error": {**error.diagnostics(), "code": reason}}, reason.status, headers)


def refusal_of(error: HubError) -> Refusal:
    """The reason that ``error`` names, or the one of its kind."""
    if error.reason:
        return Refusal(error.reason)
    kinds = ((NotFoundError, Refusal.NOT_FOUND), (StateError, Refusal.CONFLICT))
    return next((r for kind, r in kinds if isinstance(error, kind)), Refusal.FORBIDDEN)


_WORTH_WAITING = {Refusal.LOCKED, Refusal.DISK_FULL, Refusal.TOO_MANY, Refusal.UNAVAILABLE}
_WITH_UNREAD_BODY = {Refusal.TOO_LARGE, Refusal.UNAVAILABLE}
"""Nobody reads on to the end of a body that is too large, or that stands still."""


def add_handlers(app: FastAPI, page: ErrorPage | None) -> None:
    """Answer every error of ``app``: in JSON below ``/api``, elsewhere with ``page``."""

    async def answer(request: Request, error: HubError) -> Response:
        if page is not None and not request.url.path.startswith("/api/"):
            return await page(request, error)
        return error_response(error)

    async def known(request: Request, error: Exception) -> Response:
        return await answer(request, _as_hub_error(error))

    for kind in (PixcellError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, known)


def _as_hub_error(error: Exception) -> HubError:
    match error:
        case HubError():
            return error
        case DatabaseError():
            return HubError("the hub's database does not answer", "wait", Refusal.UNAVAILABLE)
        case StorageError():
            return HubError(
                "the hub cannot write to its disk", "tell its operator", Refusal.DISK_FULL
            )
        case RequestValidationError():
            return HubError(_first_fault(error), "see the API's document", Refusal.MALFORMED)
        case HTTPException(__cause__=HubError() as hidden):
            return hidden  # FastAPI hides what was raised while it read the body
        case HTTPException():
            reason, cause, remedy = _HTTP.get(
                error.status_code,
                (Refusal.MALFORMED, "the request cannot be read", "see the API's document"),
            )
            return HubError(cause, remedy, reason)
    raise error  # an error of the hub's own, whose cause may name its folders: see `failures`


def _first_fault(error: RequestValidationError) -> str:
    """Which field is wrong, and how; never what a stranger wrote into it."""
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"])[:100]
    return f"field {ascii(place)[1:-1]}: {fault['type']}"
