"""Requests of sites: who signed, for which hub, when, and whether the body is what was signed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from hub_server.registry import KeyState, sites
from hub_server.web.replay import Nonces
from hub_server.web.state import HubState, hub_of
from pixcell_share.bundles import PublicKey
from pixcell_share.errors import HubError, MembershipError
from pixcell_share.wire import (
    CREATED_WINDOW_S,
    Refusal,
    RequestSignature,
    SignedParts,
    parse_content_digest,
    read_signature,
)


@dataclass(frozen=True)
class Caller:
    """The site that signed a request."""

    site_id: str
    site: str
    """Its name."""
    key_id: str
    pending: bool
    """Whether it still waits for admission."""
    body_sha256: bytes
    """What the body must have; `Signed` has checked it unless the route streams."""


@dataclass(frozen=True)
class Signed:
    """A dependency: the route is for requests that a site has signed.

    Args:
        pending: whether a site that waits for admission may call it.
        streams: whether the route reads the body itself, and then has to check its digest.
    """

    pending: bool = False
    streams: bool = False

    async def __call__(self, request: Request) -> Caller:
        """The site, once its signature holds.

        Raises:
            HubError: there is no signature of the accepted shape, it does not hold, its time is
                off, or it was used before.
            MembershipError: the key is unknown, not admitted, retired or revoked.
        """
        hub = hub_of(request)
        signature, parts = read(request)
        check_meant_for(hub, signature)
        caller, key = await run_in_threadpool(self._find, hub, signature, parts)
        check(signature, key, parts, hub.nonces)
        if not self.streams:
            await check_body(request, caller.body_sha256)
        return caller

    def _find(
        self, hub: HubState, signature: RequestSignature, parts: SignedParts
    ) -> tuple[Caller, PublicKey]:
        with hub.registry.reading() as session:
            row = sites.signer(session, signature.key_id, pending=self.pending)
            waits = row.status is KeyState.PENDING
            caller = Caller(row.site_id, row.site.name, row.key_id, waits, body_sha256(parts))
            return caller, sites.public_key(row)


def read(request: Request) -> tuple[RequestSignature, SignedParts]:
    """The signature and what it covers, as the request came.

    Raises:
        HubError: a field is missing, repeated, or of another shape than we write.
    """
    fields = {name: _only(request, name) for name in ("Signature-Input", "Signature")}
    signature, digest = read_signature(fields), _only(request, "Content-Digest")
    if signature is None or parse_content_digest(digest) is None:
        raise HubError(
            "the request is not signed by a site",
            "use `pixcell-site`, of a version that fits this hub",
            Refusal.SIGNATURE,
        )
    offset = _only(request, "Upload-Offset") or None
    path = request.scope["raw_path"].decode("ascii")
    query = request.scope["query_string"].decode("ascii")
    return signature, SignedParts(request.method, path, query, digest, offset)


def check(
    signature: RequestSignature,
    key: PublicKey,
    parts: SignedParts,
    nonces: Nonces,
    clock: Callable[[], float] = time.time,
) -> None:
    """Check the signature itself, then its time, then that it is new.

    Raises:
        HubError: one of them is wrong.
    """
    if not signature.holds(key, parts):
        raise HubError(
            "the signature of the request does not hold",
            "send it again; something changed it on its way",
            Refusal.SIGNATURE,
        )
    now = clock()
    if abs(now - signature.created) > CREATED_WINDOW_S:
        raise HubError(
            f"the request says it was signed at {_shown(signature.created)}, and the hub's clock "
            f"shows {_shown(now)}: {CREATED_WINDOW_S // 60} minutes may lie between",
            "set the clock of the machine that is wrong",
            Refusal.CLOCK,
        )
    nonces.use(signature.key_id, signature.nonce, now)


async def check_body(request: Request, sha256: bytes) -> None:
    """Compare the body, which is small, with its signed digest.

    Raises:
        HubError: it differs.
    """
    if hashlib.sha256(await request.body()).digest() != sha256:
        raise HubError(
            "the body is not the one that was signed", "send it again", Refusal.SIGNATURE
        )


def body_sha256(parts: SignedParts) -> bytes:
    """What the body must have."""
    return parse_content_digest(parts.content_digest) or b""


def check_meant_for(hub: HubState, signature: RequestSignature) -> None:
    """A request for another hub is none for this one, whoever passes it on.

    Raises:
        MembershipError: it is for another.
    """
    if signature.hub_key_id != hub.key.key_id:
        raise MembershipError(
            "the request is meant for a hub with another key",
            "join this hub with its own invitation",
            Refusal.SIGNATURE,
        )


def _only(request: Request, name: str) -> str:
    """A header field that stands once; empty if it does not."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else ""


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
