"""The access rule of the fleet's path: a node whose key a site registered."""

from __future__ import annotations

import base64
import binascii

from fastapi import Request

from hub_server.federation.nodes import NodeBook, pem_of
from hub_server.federation.places import Places
from hub_server.web.state import hub_of
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal

_KEY = "flwr-public-key"


def known_node(request: Request) -> None:
    """A rule: nodes that the hub knows. The SuperLink checks their signatures.

    Raises:
        HubError: no site registered the key that the request names.
    """
    book = NodeBook(Places(hub_of(request).home))
    if _key_of(request) not in {pem_of(key) for key in book.keys().values()}:
        raise HubError("the hub does not know this node", "run the agent", Refusal.UNKNOWN_KEY)


def _key_of(request: Request) -> bytes:
    try:
        return base64.b64decode(request.headers.get(_KEY, ""), validate=True)
    except (ValueError, binascii.Error):
        return b""
