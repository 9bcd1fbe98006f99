"""The login; its form goes to `hub_server.web.api.session`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from hub_server.web import sessions
from hub_server.web.access import public
from hub_server.web.api.session import local_page
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Choice
from hub_server.web.state import hub_of

router = APIRouter(include_in_schema=False)
_FAULTS = {
    "wrong": "The name or the password is wrong.",
    "often": "There were too many tries. Wait ten minutes, then try again.",
}


@router.get("/login", dependencies=[Depends(public)])
async def login(request: Request, error: Choice = "") -> Response:
    """The form; who is logged in already goes on."""
    wanted = local_page(request.query_params.get("next", "/")[:500])
    if await sessions.current_account(request) is not None:
        return RedirectResponse(wanted, 303)
    oidc = hub_of(request).config.oidc
    return page(
        request,
        None,
        "login.html",
        fault=_FAULTS.get(error, ""),
        next_page=wanted,
        oidc=oidc.label if oidc.issuer else "",
    )
