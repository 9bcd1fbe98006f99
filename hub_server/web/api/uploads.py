"""Uploads over HTTP: tus 1.0 with checksums, expiration and termination.

An upload is made by one call that announces all files of a bundle (not by tus's creation
extension); each file is then a tus resource of its own, so that files come in any order and over
several connections. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from hub_server.uploads import Upload
from hub_server.web.access import FromSite, StreamFromSite, public
from hub_server.web.api import tus
from hub_server.web.api.models import CohortStatus, Offer, UploadBegun
from hub_server.web.cohorts import begun_before, finish_upload, in_intake, stored_bytes
from hub_server.web.receiving import receive_request
from hub_server.web.state import HubState, hub_of
from pixcell_share.errors import UploadError
from pixcell_share.wire import FileOffer, Refusal

router = APIRouter(prefix="/uploads", tags=["uploads"])
_PIECE = "application/offset+octet-stream"


@router.options("", dependencies=[Depends(public)], status_code=204)
@router.options("/{upload_id}/{name}", dependencies=[Depends(public)], status_code=204)
def options(request: Request, response: Response) -> None:
    """What of tus this hub speaks."""
    limits = hub_of(request).uploads.settings
    response.headers.update(
        {
            "Tus-Resumable": tus.TUS_VERSION,
            "Tus-Version": tus.TUS_VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
            "Tus-Max-Size": str(limits.file_bytes),
        }
    )


@router.post("")
def begin(request: Request, offer: Offer, caller: FromSite) -> UploadBegun:
    """Announce a bundle; says what is here of it. The same bundle is found again."""
    hub, wanted = hub_of(request), offer.parsed()
    if (cohort := begun_before(hub, caller, wanted.bundle_digest)) is not None:
        return UploadBegun(cohort=cohort)
    held = stored_bytes(hub, caller)
    upload = hub.uploads.begin(caller.site_id, wanted, stored_bytes=held)
    return UploadBegun(
        upload_id=upload.id,
        offsets=upload.offsets(),
        request_bytes=hub.uploads.settings.request_bytes,
        expires_at=hub.uploads.expires_at(upload),
    )


@router.get("/{upload_id}")
def look(request: Request, upload_id: str, caller: FromSite) -> UploadBegun:
    """What is here of an upload."""
    hub = hub_of(request)
    upload = hub.uploads.find(caller.site_id, upload_id)
    return UploadBegun(
        upload_id=upload.id,
        offsets=upload.offsets(),
        request_bytes=hub.uploads.settings.request_bytes,
        expires_at=hub.uploads.expires_at(upload),
    )


@router.head("/{upload_id}/{name}")
def offset(
    request: Request, upload_id: str, name: str, caller: FromSite, _tus: tus.UsesTus
) -> Response:
    """How much of a file is here."""
    hub, upload, file = _found(request, caller.site_id, upload_id, name)
    fields = _fields(hub, upload, upload.offset(file))
    return Response(headers={**fields, "Upload-Length": str(file.size)})


@router.patch("/{upload_id}/{name}", status_code=204)
async def receive(
    request: Request,
    upload_id: str,
    name: str,
    caller: StreamFromSite,
    _tus: tus.UsesTus,
    upload_offset: Annotated[str, Header()],
    content_type: Annotated[str, Header()] = "",
    upload_checksum: Annotated[str | None, Header()] = None,
) -> Response:
    """Take a piece of a file. What came of a request that broke off is kept."""
    if content_type != _PIECE:
        raise UploadError(f"Content-Type is not {_PIECE}", "send it", Refusal.MALFORMED)
    digests = [("sha256", caller.body_sha256), *tus.parse_checksum(upload_checksum)]
    begin_at = tus.parse_offset(upload_offset)
    hub, upload, file = await run_in_threadpool(_found, request, caller.site_id, upload_id, name)
    end = await receive_request(request, hub, upload, file, begin_at, digests)
    return Response(status_code=204, headers=_fields(hub, upload, end))


@router.delete("/{upload_id}", status_code=204)
def cancel(request: Request, upload_id: str, caller: FromSite) -> None:
    """Give an upload up: all that came of it is deleted."""
    hub = hub_of(request)
    upload = hub.uploads.find(caller.site_id, upload_id)
    if upload.offer.bundle_digest in in_intake(hub):
        raise UploadError("the bundle is being checked", "wait", Refusal.CONFLICT)
    hub.uploads.remove(upload.id)


@router.post("/{upload_id}/finish", status_code=202)
def finish(request: Request, upload_id: str, caller: FromSite) -> CohortStatus:
    """Say that all files are here: the bundle becomes a cohort and is checked."""
    hub = hub_of(request)
    return finish_upload(hub, caller, hub.uploads.find(caller.site_id, upload_id))


def _found(
    request: Request, site_id: str, upload_id: str, name: str
) -> tuple[HubState, Upload, FileOffer]:
    hub = hub_of(request)
    upload = hub.uploads.find(site_id, upload_id)
    return hub, upload, hub.uploads.file(upload, name)


def _fields(hub: HubState, upload: Upload, offset: int) -> dict[str, Any]:
    return {
        "Tus-Resumable": tus.TUS_VERSION,
        "Upload-Offset": str(offset),
        "Upload-Expires": formatdate(hub.uploads.expires_at(upload), usegmt=True),
    }
