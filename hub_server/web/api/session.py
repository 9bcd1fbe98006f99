"""Logging in and out, for the form of the page and for programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from hub_server.registry import accounts
from hub_server.web import sessions
from hub_server.web.access import EVERYONE, public, require_role
from hub_server.web.api.models import LoggedIn, Login
from hub_server.web.logins import log_in
from hub_server.web.sessions import Person
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

api = APIRouter(prefix="/session", tags=["session"])
forms = APIRouter(include_in_schema=False)
AnyPerson = Annotated[Person, Depends(require_role(*EVERYONE))]
_SEE_OTHER = 303


@api.post("", dependencies=[Depends(public)])
async def start(request: Request, response: Response, login: Login) -> LoggedIn:
    """Log in by name and password; the cookie of the answer is the session."""
    found = await log_in(request, login.name, login.password)
    sessions.start(response, found)
    account = found.account
    return LoggedIn(name=account.name, role=account.role.value, csrf=found.csrf)


@api.get("")
def who(person: AnyPerson) -> LoggedIn:
    """Who is logged in."""
    return LoggedIn(name=person.name, role=person.role.value, csrf=person.csrf)


@api.delete("", status_code=204)
async def end(request: Request, response: Response, person: AnyPerson) -> None:
    """Log out."""
    await _log_out(request)
    sessions.end(response)


@forms.post("/login", dependencies=[Depends(public)])
async def submit(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=4000)],
    next_page: Annotated[str, Form(alias="next", max_length=500)] = "/",
) -> Response:
    """The form of the page ``/login``; goes on to where one wanted to go, or back."""
    try:
        found = await log_in(request, name, password)
    except HubError as error:
        wrong = "often" if error.reason == Refusal.TOO_MANY else "wrong"
        return RedirectResponse(f"/login?error={wrong}", _SEE_OTHER)
    response = RedirectResponse(local_page(next_page), _SEE_OTHER)
    sessions.start(response, found)
    return response


@forms.post("/logout")
async def leave(request: Request, person: AnyPerson) -> Response:
    """The button that logs out."""
    await _log_out(request)
    response = RedirectResponse("/login", _SEE_OTHER)
    sessions.end(response)
    return response


def local_page(path: str) -> str:
    """``path`` if it is a page of this hub, else the first page: nobody is sent elsewhere."""
    plain = path.isprintable() and path.startswith("/") and "\\" not in path
    return path if plain and not path.startswith("//") else "/"


async def _log_out(request: Request) -> None:
    token = request.cookies[sessions.COOKIE]

    def work() -> None:
        with hub_of(request).registry.session() as session:
            accounts.log_out(session, token)

    await run_in_threadpool(work)
