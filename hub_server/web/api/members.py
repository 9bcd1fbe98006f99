"""Joining, and changing a key."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from hub_server.web import signed
from hub_server.web.access import FromNewSite, FromSite, public
from hub_server.web.api.models import JoinRequest, JoinStatus, RotationRequest
from hub_server.web.state import HubState, acts_of, address_of, hub_of
from pixcell_share.bundles import PublicKey
from pixcell_share.bundles.keys import parse_public_key
from pixcell_share.errors import HubError, KeyFileError
from pixcell_share.wire import Refusal
from pixcell_share.wire.rotation import Rotation

router = APIRouter(tags=["members"])


@router.post("/join", dependencies=[Depends(public)], status_code=202)
async def join(request: Request, asked: JoinRequest) -> JoinStatus:
    """Take a site's key for its invitation. The request is signed with that very key."""
    hub = hub_of(request)
    hub.joins.check(address_of(request))
    hub.joins.count(address_of(request))
    signature, parts = signed.read(request)
    signed.check_meant_for(hub, signature)
    key = _parsed(asked.public_key)
    signed.check(signature, key, parts, hub.nonces)
    await signed.check_body(request, signed.body_sha256(parts))
    status = await run_in_threadpool(_join, hub, asked)
    hub.joins.forget(address_of(request))
    return status


@router.get("/join/{key_id}")
def status(key_id: str, caller: FromNewSite) -> JoinStatus:
    """Whether the operator has admitted the site."""
    if key_id != caller.key_id:
        raise HubError("this is another key", "ask for your own", Refusal.FORBIDDEN)
    state = "pending" if caller.pending else "active"
    return JoinStatus(site=caller.site, key_id=caller.key_id, status=state)


@router.post("/keys")
def rotate(request: Request, asked: RotationRequest, caller: FromSite) -> JoinStatus:
    """Replace the site's key by one that it signed. The old key signs the request."""
    hub = hub_of(request)
    rotation = Rotation(asked.public_key, asked.by_old, asked.by_new)
    try:
        acts = acts_of(hub, f"site:{caller.site}")
        new = acts.rotate(caller.site, caller.key_id, rotation, hub.key.key_id).key_id
    except KeyFileError as error:
        raise _no_key(error) from error
    return JoinStatus(site=caller.site, key_id=new, status="active")


def _join(hub: HubState, asked: JoinRequest) -> JoinStatus:
    acts = acts_of(hub, f"site:{asked.site}")
    row = acts.join(asked.code, asked.site, asked.public_key.encode())
    return JoinStatus(site=asked.site, key_id=row.key_id, status=row.status.value)


def _parsed(pem: str) -> PublicKey:
    try:
        return parse_public_key(pem.encode(), "the site's key")
    except KeyFileError as error:
        raise _no_key(error) from error


def _no_key(error: KeyFileError) -> HubError:
    return HubError(error.cause, error.remedy, Refusal.MALFORMED)
