"""The only way from outside to the SuperLink: what nodes need, for nodes that a site registered.

Flower has one port for nodes, runs and executors, and no accounts on it. So the port is on the
loopback interface, and the hub's front passes on what nodes send and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import Field

from hub_server.federation.known_node import known_node
from hub_server.federation.nodes import NodeBook
from hub_server.federation.places import Places
from hub_server.web.access import FromSite
from hub_server.web.api.models import Document
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

PATH = "/v1/fleet/"
MAX_BYTES = 32 << 20
"""Of one request: Flower cuts arrays into pieces of 5 MiB (``MAX_ARRAY_CHUNK_SIZE``)."""
METHODS = frozenset(
    {
        "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages",
        "push-messages", "get-run", "get-fab", "push-object", "pull-object",
        "confirm-message-received",
    }
)  # fmt: skip
"""Of Flower's Fleet API. Nodes are registered by the hub, never by themselves."""
_ENDS_HERE = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Fields between two neighbours (RFC 9110, section 7.6.1), and those that httpx writes."""
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)

router = APIRouter(tags=["federation"])


class NodeKey(Document):
    """The public key of a site's node."""

    public_key: Annotated[str, Field(max_length=1000)]
    """In OpenSSH's form; P-256 or P-384."""


class NodeNoted(Document):
    """What the hub noted."""

    site: str
    running: bool
    """Whether the hub's SuperLink runs now."""


@router.post("/api/v1/federation/node")
def note_node(request: Request, asked: NodeKey, caller: FromSite) -> NodeNoted:
    """Note the key of a site's node; the SuperLink takes it within seconds."""
    places = Places(hub_of(request).home)
    NodeBook(places).note(caller.site, asked.public_key)
    return NodeNoted(site=caller.site, running=places.address.exists())


@router.post(PATH + "{method}", dependencies=[Depends(known_node)], include_in_schema=False)
async def forward(request: Request, method: str) -> Response:
    """Pass a node's request on to the SuperLink, which checks the node's signature."""
    places = Places(hub_of(request).home)
    if method not in METHODS:
        raise HubError("no such way", "use `pixcell-site agent`", Refusal.FORBIDDEN)
    client = _client_of(places)
    fields = [(n, v) for n, v in request.headers.items() if n.lower() not in _ENDS_HERE]
    try:
        answer = await client.post(PATH + method, content=await request.body(), headers=fields)
    except httpx.TransportError as error:
        raise _not_running() from error
    kept = {n: v for n, v in answer.headers.items() if n.lower() not in _ENDS_HERE}
    return Response(answer.content, answer.status_code, kept)


def _client_of(places: Places) -> httpx.AsyncClient:
    try:
        address = places.address.read_text().strip()
    except FileNotFoundError as error:
        raise _not_running() from error
    return _client(address, places.tls / "ca.crt")


@lru_cache(maxsize=4)
def _client(address: str, authority: FilePath) -> httpx.AsyncClient:
    """One for each start of the SuperLink.

    It keeps no connection: one that is idle does not see the SuperLink close it, and the SuperLink
    waits for that when it stops.
    """
    context = httpx.create_ssl_context(verify=str(authority))
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    return httpx.AsyncClient(
        base_url=f"https://{address}", verify=context, timeout=_TIMEOUT, limits=limits,
        trust_env=False,
    )  # fmt: skip


def _not_running() -> HubError:
    return HubError("the hub's SuperLink does not run", "wait", Refusal.UNAVAILABLE)
