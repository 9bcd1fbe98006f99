"""Errors as a page: the cause, what to do next, and the way on."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from hub_server.web import sessions
from hub_server.web.errors import refusal_of
from hub_server.web.pages._render import page
from hub_server.web.sessions import Person
from pixcell_share.errors import HubError, PixcellError
from pixcell_share.wire import Refusal

_TITLES = {
    Refusal.FORBIDDEN: "Not for your role",
    Refusal.CSRF: "The form was not taken",
    Refusal.NOT_FOUND: "Nothing is here",
    Refusal.CONFLICT: "This cannot be done now",
    Refusal.TOO_MANY: "Too many tries",
    Refusal.TOO_LARGE: "Too large",
    Refusal.UNAVAILABLE: "The hub cannot answer now",
    Refusal.DISK_FULL: "The hub cannot answer now",
}


async def error_page(request: Request, error: HubError) -> Response:
    """Show an error; who is not logged in goes to the login, and comes back from there."""
    reason = refusal_of(error)
    if reason is Refusal.LOGIN:
        return _to_login(request)
    person = await _person(request)
    return await run_in_threadpool(
        page,
        request,
        person,
        "error.html",
        status=reason.status,
        title=_TITLES.get(reason, "This did not work"),
        error=error,
    )


async def _person(request: Request) -> Person | None:
    """Who is logged in, if the database says."""
    try:
        return await sessions.current_account(request)
    except PixcellError:
        return None


def _to_login(request: Request) -> Response:
    wanted = request.url.path if request.method == "GET" else "/"
    if request.method == "GET" and request.url.query:
        wanted += f"?{request.url.query}"
    where = "/login" if wanted == "/" else f"/login?{urlencode({'next': wanted})}"
    return RedirectResponse(where, 303)
