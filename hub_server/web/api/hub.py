"""The hub's statement about itself, and the API's document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from hub_server.web.access import public
from hub_server.web.state import hub_of
from pixcell_share import __version__
from pixcell_share.wire import HubStatement

router = APIRouter(tags=["hub"], dependencies=[Depends(public)])
Nonce = Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{22}$")]


@router.get("/hub")
def statement(request: Request, nonce: Nonce) -> dict[str, Any]:
    """Name, key and certificate of the hub, signed with the number that the caller chose."""
    hub = hub_of(request)
    said = HubStatement(
        name=hub.config.name,
        version=__version__,
        public_key=hub.key.public_pem.decode(),
        certificate_sha256=hub.certificate_sha256,
        nonce=nonce,
    )
    return said.sign(hub.key)


@router.get("/openapi.json", include_in_schema=False)
def document(request: Request) -> dict[str, Any]:
    """This API as an OpenAPI document."""
    found: dict[str, Any] = request.app.openapi()
    return found
