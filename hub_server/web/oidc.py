"""Log in with an identity provider (OpenID Connect, code flow with PKCE), through Authlib.

The provider says who somebody is; what they may do is the hub's to say: an account of the hub has
the provider's ``sub``, or nobody is logged in.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from joserfc.errors import JoseError
from starlette.middleware.sessions import SessionMiddleware

from hub_server.config import OidcSettings
from hub_server.registry import accounts
from hub_server.registry.accounts import LoggedIn
from hub_server.web import sessions
from hub_server.web.access import public
from hub_server.web.state import HubState, hub_of
from pixcell_share.errors import HubError, KeyFileError
from pixcell_share.wire import Refusal

_START, _BACK = "/login/oidc", "/login/oidc/callback"
_COOKIE = "__Host-pixcell-oidc"
"""Holds state, nonce and PKCE verifier until the provider sends the browser back; signed."""
_LIFETIME_S = 600
_MAX_SECRET_BYTES = 4096
_FAULTS = (AuthlibBaseError, JoseError, httpx.HTTPError, RuntimeError, ValueError, KeyError)
"""What a provider that is away, or answers nonsense, leads to."""
_ON = '<!doctype html><meta http-equiv="refresh" content="0;url=/"><a href="/">Go on</a>'
"""A page, not a redirect: a browser keeps back a strict cookie where another site led to it."""


def add_oidc(app: FastAPI, hub: HubState) -> None:
    """Offer it, if ``hub.toml`` names a provider.

    Raises:
        KeyFileError: the file with the client's secret is missing, or open to others.
    """
    settings = hub.config.oidc
    if not settings.issuer:
        return
    app.include_router(_router(settings, _client(settings)))
    app.add_middleware(
        SessionMiddleware,
        secret_key=hub.key.derive("web/oidc").hex(),
        session_cookie=_COOKIE,
        max_age=_LIFETIME_S,
        same_site="lax",  # the provider's redirect has to bring it back
        https_only=True,
    )


def _client(settings: OidcSettings) -> Any:
    registered: Any = OAuth().register(
        "provider",
        client_id=settings.client_id,
        client_secret=_read_secret(Path(settings.client_secret_file)),
        server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid", "code_challenge_method": "S256", "timeout": 20.0},
    )
    return registered


def _router(settings: OidcSettings, provider: Any) -> APIRouter:
    router = APIRouter(include_in_schema=False, dependencies=[Depends(public)])
    claims = {
        "iss": {"essential": True, "value": settings.issuer},
        "aud": {"essential": True, "value": settings.client_id},
    }

    @router.get(_START)
    async def start(request: Request) -> Response:
        """Send the browser to the provider."""
        back = hub_of(request).config.url.rstrip("/") + _BACK
        try:
            answer: Response = await provider.authorize_redirect(request, back)
        except _FAULTS as error:
            raise _away() from error
        return answer

    @router.get(_BACK)
    async def back(request: Request) -> Response:
        """The provider has sent the browser back."""
        try:
            token = await provider.authorize_access_token(request, claims_options=claims)
            subject = str(token["userinfo"]["sub"])
        except _FAULTS as error:
            raise _not_known() from error
        found = await run_in_threadpool(_log_in, hub_of(request), subject)
        response = HTMLResponse(_ON)
        sessions.start(response, found)
        return response

    return router


def _log_in(hub: HubState, subject: str) -> LoggedIn:
    with hub.registry.session() as session:
        found = accounts.log_in_by_oidc(session, subject, hub.config.accounts)
    if found is None:
        raise _not_known()
    return found


def _read_secret(path: Path) -> str:
    try:
        mode, secret = path.stat().st_mode, path.read_bytes()[:_MAX_SECRET_BYTES]
    except OSError as error:
        raise KeyFileError(
            "oidc.client_secret_file cannot be read", "mend it in hub.toml"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError("oidc.client_secret_file is readable by others", "chmod 600 it")
    return secret.decode().strip()


def _away() -> HubError:
    return HubError(
        "the identity provider does not answer", "log in by password, or later", Refusal.UNAVAILABLE
    )


def _not_known() -> HubError:
    return HubError(
        "the identity provider has not logged you in, or you have no account here",
        "ask the hub's operator for an account",
        Refusal.FORBIDDEN,
    )
