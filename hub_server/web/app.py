"""The hub as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI

from hub_server import tls
from hub_server.federation import fleet
from hub_server.home import HubHome
from hub_server.uploads import UploadSettings, UploadStore
from hub_server.web.access import check_rules
from hub_server.web.api import cohorts, hub, members, session, tus, uploads
from hub_server.web.body_limits import SMALL_BYTES, BodyLimits
from hub_server.web.errors import ErrorPage, add_handlers
from hub_server.web.failures import Failures
from hub_server.web.headers import SecurityHeaders
from hub_server.web.oidc import add_oidc
from hub_server.web.state import HubState
from pixcell_share import __version__

API = "/api/v1"
_OFFER_BYTES = 1 << 20
"""The list of the files of the largest bundle is a third of that."""


def open_hub(home: HubHome, *, own_certificate: bool = True) -> HubState:
    """What a served hub needs, from its home folder.

    Args:
        home: the hub's.
        own_certificate: whether clients see the certificate of ``home``; not behind a proxy.

    Raises:
        SettingsError: ``hub.toml`` or the certificate cannot be used.
        KeyFileError: there is no hub in the folder.
    """
    config = home.config()
    return HubState(
        home=home,
        config=config,
        key=home.load_key(),
        registry=home.registry(config),
        uploads=UploadStore(home.uploads, config.uploads),
        certificate_sha256=tls.fingerprint(home.certificate) if own_certificate else "",
    )


def create_app(
    state: HubState, pages: Sequence[APIRouter] = (), error_page: ErrorPage | None = None
) -> FastAPI:
    """The API, and the pages if there are any.

    Args:
        state: from `open_hub`.
        pages: routers of the pages.
        error_page: shows an error to a person.
    """
    app = FastAPI(
        title="pixcell-hub",
        version=__version__,
        openapi_url=None,  # served by `api.hub`, under a rule like all routes
        docs_url=None,  # would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.hub = state
    add_handlers(app, error_page)
    app.add_exception_handler(tus.WrongTusVersionError, tus.wrong_version)
    for router in (hub.router, members.router, uploads.router, cohorts.router, session.api):
        app.include_router(router, prefix=API)
    for router in (session.forms, fleet.router, *pages):
        app.include_router(router)
    add_oidc(app, state)
    check_rules(app)
    app.add_middleware(Failures)
    app.add_middleware(BodyLimits, limit_for=_limits(state.config.uploads))
    app.add_middleware(SecurityHeaders)
    return app


def _limits(settings: UploadSettings) -> Any:
    """Bytes that a method and a path may bring."""

    def limit_for(method: str, path: str) -> int:
        if path.startswith(fleet.PATH):
            return fleet.MAX_BYTES
        if not path.startswith(f"{API}/uploads"):
            return SMALL_BYTES
        return settings.request_bytes if method == "PATCH" else _OFFER_BYTES

    return limit_for
