"""The log of acts: reading it, and taking a copy away to check it without the hub."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from hub_server.log import ActFilter, read_checkpoint, search
from hub_server.web.log_copy import open_copy
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Choice, Reader
from hub_server.web.state import hub_of

router = APIRouter(prefix="/log", include_in_schema=False)
_COUNT = 50
_BLOCK = 1 << 20
THINGS = ("site", "account", "bundle", "cohort", "job", "encoder", "evaluation", "log")
"""What acts are about: the first word of their names."""


@router.get("")
def listed(
    request: Request,
    person: Reader,
    about: Choice = "",
    text: Choice = "",
    before: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Acts, the latest first, by what they are about and by a word in them."""
    hub = hub_of(request)
    found = search(hub.log, ActFilter(about, text), _COUNT, before)
    older = {"about": about, "text": text, "before": found.older}
    return page(
        request,
        person,
        "log.html",
        found=found,
        mark=read_checkpoint(hub.log.checkpoint(), hub.key.public),
        older=f"?{urlencode(older)}" if found.older else "",
        later=before is not None,
        chosen={"about": about, "text": text},
        things=THINGS,
    )


@router.get("/checkpoint")
def checkpoint(request: Request, person: Reader) -> Response:
    """The latest signed checkpoint: who keeps it can tell later what was changed."""
    content = hub_of(request).log.checkpoint()
    headers = {"Content-Disposition": 'attachment; filename="checkpoint"'}
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/copy.zip")
def copy(request: Request, person: Reader) -> Response:
    """The log, its checkpoint and the hub's public key."""
    stream = open_copy(hub_of(request).home.log_folder, hub_of(request).log, hub_of(request).key)
    headers = {"Content-Disposition": 'attachment; filename="hub-log.zip"'}
    blocks = iter(lambda: stream.read(_BLOCK), b"")
    return StreamingResponse(blocks, media_type="application/zip", headers=headers)
