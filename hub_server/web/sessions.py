"""People who are logged in: the session's cookie, and the token that forms carry (CSRF)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from hub_server.registry import Role, accounts
from hub_server.registry.accounts import LoggedIn
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

COOKIE = "__Host-pixcell"
"""With this prefix a browser insists on TLS, on this very host, and on the whole site."""
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in."""

    account_id: str
    name: str
    role: Role
    csrf: str
    """To be put into every form, as the field ``csrf``."""


async def current_account(request: Request) -> Person | None:
    """Who is logged in; none if nobody is. Looked up once for each request."""
    if not hasattr(request.state, "person"):
        request.state.person = await run_in_threadpool(_look_up, request)
    found: Person | None = request.state.person
    return found


def _look_up(request: Request) -> Person | None:
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    with hub_of(request).registry.reading() as session:
        found = accounts.who(session, token)
        if found is None:
            return None
        account = found.account
        return Person(account.id, account.name, account.role, found.csrf)


def start(response: Response, logged_in: LoggedIn) -> None:
    """Give the browser its session."""
    left = logged_in.expires_at - datetime.now(UTC)
    response.set_cookie(
        COOKIE,
        logged_in.token,
        max_age=int(left.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )


def end(response: Response) -> None:
    """Take it away."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


async def check_csrf(request: Request, person: Person) -> None:
    """What changes something carries the session's token, in a header or in a form.

    Raises:
        HubError: it does not.
    """
    if request.method in _SAFE:
        return
    check_same_origin(request)
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("Content-Type", "").startswith(_FORMS):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise HubError(
            "the form does not belong to this session", "load the page again", Refusal.CSRF
        )


def check_same_origin(request: Request) -> None:
    """A browser says where a request comes from; one that changes something comes from here.

    Raises:
        HubError: it comes from another site.
    """
    if request.method in _SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    own = f"{request.url.scheme}://{request.headers.get('Host', '')}"
    if site not in ("none", "same-origin") or (origin is not None and origin != own):
        raise HubError("the form comes from another site", "load the page again", Refusal.CSRF)
