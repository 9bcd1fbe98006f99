"""Requests to the hub, each signed with the site's key, and its refusals as errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubError, HubUnreachableError, MembershipError
from pixcell_share.files import canonical_json
from pixcell_share.wire import Refusal, SignedParts, content_digest, sign_request
from site_agent.hub_link import HubLink, meet

API = "/api/v1"
_TIMEOUT = httpx.Timeout(120.0, connect=20.0)
"""For each single read or write, not for a request: a slow link is no dead one."""
_WRITE_BYTES = 64 << 10
_MEMBERSHIP = {
    Refusal.UNKNOWN_KEY,
    Refusal.PENDING,
    Refusal.REVOKED,
    Refusal.INVITATION,
    Refusal.SIGNATURE,
    Refusal.CLOCK,
}
_RENEWED = "the hub shows a new certificate, and its key vouches for it"


class HubClient:
    """A joined hub, for one site; may be used by several threads.

    Args:
        link: the hub.
        key: the site's; it signs, and stays here.
        on_renewed: told the link with a renewed certificate.
    """

    def __init__(
        self, link: HubLink, key: SiteKey, on_renewed: Callable[[HubLink], object]
    ) -> None:
        self._link, self._key, self._on_renewed = link, key, on_renewed
        self._http = _open(link)

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def call(
        self, method: str, path: str, document: Any = None, *, fields: Mapping[str, str] = {}
    ) -> httpx.Response:
        """Send a small document, or none.

        Args:
            method: of HTTP.
            path: below the API.
            document: sent as JSON.
            fields: more header fields.

        Raises:
            HubUnreachableError: no answer, or none that makes sense.
            HubError: the hub said no.
        """
        body = b"" if document is None else canonical_json(document)
        kind = {} if document is None else {"Content-Type": "application/json"}
        return self._send(method, path, body, {**kind, **fields}, body)

    def offset(self, upload: str, name: str) -> int:
        """How much of a file of an upload the hub has (tus HEAD); errors as of `call`."""
        try:
            answer = self.call("HEAD", f"{upload}/{name}", fields={"Tus-Resumable": "1.0.0"})
        except HubUnreachableError:
            # The answer to a HEAD has no body that could say why; another question has.
            return int(self.call("GET", upload).json()["offsets"][name])
        return int(answer.headers["Upload-Offset"])

    def send_piece(self, path: str, offset: int, piece: bytes, stopped: Callable[[], bool]) -> int:
        """Append ``piece`` to the file at ``path`` (tus PATCH); returns the new offset.

        Args:
            path: of the file below the API.
            offset: where the piece begins.
            piece: its bytes.
            stopped: asked now and then; if it says so, the connection is cut.

        Raises:
            HubUnreachableError: the connection broke; the hub may have kept a part.
            HubError: the hub said no.
        """
        fields = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(piece)),
            "Upload-Offset": str(offset),
            "Tus-Resumable": "1.0.0",
        }
        answer = self._send("PATCH", path, piece, fields, _in_parts(piece, stopped))
        return int(answer.headers["Upload-Offset"])

    def _send(
        self,
        method: str,
        path: str,
        body: bytes,
        fields: Mapping[str, str],
        content: bytes | Iterator[bytes],
    ) -> httpx.Response:
        digest = content_digest(body)
        parts = SignedParts(method, API + path, "", digest, fields.get("Upload-Offset"))
        signed = sign_request(self._key, self._link.hub_key_id, parts, created=int(time.time()))
        headers = {**fields, **signed, "Content-Digest": digest}
        try:
            answer = self._http.request(method, API + path, headers=headers, content=content)
        except httpx.TransportError as error:
            self._renew_if_needed(error)
            raise _unreachable(type(error).__name__) from error
        return _checked(answer)

    def _renew_if_needed(self, error: httpx.TransportError) -> None:
        """Ask the hub's key about a certificate that is not the known one.

        Raises:
            HubTrustError: it does not vouch for it.
        """
        if not _is_certificate(error):
            return
        link = meet(self._link.url, self._link.hub_key_id)
        old, self._link, self._http = self._http, link, _open(link)
        old.close()
        self._on_renewed(link)


def _open(link: HubLink) -> httpx.Client:
    return httpx.Client(base_url=link.url, verify=link.tls(), timeout=_TIMEOUT)


def _in_parts(piece: bytes, stopped: Callable[[], bool]) -> Iterator[bytes]:
    """Small parts, so that the time limit of a write starts anew with each."""
    for start in range(0, len(piece), _WRITE_BYTES):
        if stopped():
            raise httpx.WriteError("stopped")
        yield piece[start : start + _WRITE_BYTES]


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        error = answer.json()["error"]
        reason = Refusal(error["code"])
        cause, remedy = f"the hub says: {error['cause']}", str(error["remedy"])
    except (ValueError, KeyError, TypeError) as unreadable:
        raise _unreachable(f"HTTP {answer.status_code}") from unreadable
    if reason is Refusal.UNAVAILABLE:
        raise HubUnreachableError(cause, remedy, reason)
    kind = MembershipError if reason in _MEMBERSHIP else HubError
    raise kind(cause, remedy, reason)


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unreachable(why: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"the hub does not answer ({why})", "check the network; what was sent is kept"
    )
