"""The style sheet and the one script, with addresses that change when they do."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Depends, Response

from hub_server.web.access import public
from pixcell_share.errors import NotFoundError

router = APIRouter(include_in_schema=False)
_KINDS = {
    "hub.css": "text/css; charset=utf-8",
    "hub.js": "text/javascript; charset=utf-8",
    "hub.svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


@router.get("/static/{name}", dependencies=[Depends(public)])
def static(name: str) -> Response:
    """One of the files beside the templates.

    Raises:
        NotFoundError: there is no such file.
    """
    if name not in _KINDS:
        raise NotFoundError("there is no such file", "load the page again")
    return Response(_content(name), media_type=_KINDS[name], headers={"Cache-Control": _FOREVER})


def address(name: str) -> str:
    """Where a page finds a file, as it is now."""
    return f"/static/{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _content(name: str) -> bytes:
    return (files("hub_server.web") / "static" / name).read_bytes()
