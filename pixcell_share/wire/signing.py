"""Requests that a site signs with its key: RFC 9421 (HTTP Message Signatures), in one narrow shape.

A signature covers the method, the path, the query, the digest of the body, and for a piece of a
file its offset. Its ``tag`` names the hub by its key, so that no other hub can pass it on; the
address is not covered, since a hub may move. Exactly one form of ``Signature-Input`` is accepted,
so nothing has to be parsed leniently; any implementation of RFC 9421 can write and check it.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from pixcell_share.bundles.keys import PublicKey, SiteKey

CREATED_WINDOW_S = 900
"""How far a signature's time and the hub's clock may lie apart, either way, in seconds."""
_LABEL = "site"
_TAG = "pixcell-share:"
_INPUT = re.compile(
    _LABEL + r'=\((?P<parts>[ "@a-z-]{1,200})\);created=(?P<created>[0-9]{1,12});'
    r'keyid="(?P<key_id>[0-9a-f]{64})";alg="ed25519";nonce="(?P<nonce>[A-Za-z0-9_-]{22})";'
    r'tag="' + _TAG + r'(?P<hub>[0-9a-f]{64})"'
)
_SIGNATURE = re.compile(_LABEL + r"=:(?P<value>[A-Za-z0-9+/]{86}==):")


@dataclass(frozen=True)
class SignedParts:
    """What of a request is signed."""

    method: str
    path: str
    """As it is sent, with its percent signs."""
    query: str
    """As it is sent, without the question mark; empty if there is none."""
    content_digest: str
    """The field ``Content-Digest``; an empty body has one too."""
    upload_offset: str | None = None
    """The field ``Upload-Offset``, where there is one."""

    def _lines(self) -> list[tuple[str, str]]:
        lines = [
            ("@method", self.method),
            ("@path", self.path),
            ("@query", "?" + self.query),
            ("content-digest", self.content_digest),
        ]
        if self.upload_offset is not None:
            lines.append(("upload-offset", self.upload_offset))
        return lines

    def names(self) -> str:
        """The covered components as ``Signature-Input`` lists them."""
        return " ".join(f'"{name}"' for name, _ in self._lines())

    def base(self, parameters: str) -> bytes:
        """The bytes that are signed (RFC 9421, 2.5)."""
        lines = [f'"{name}": {value}' for name, value in self._lines()]
        return "\n".join([*lines, f'"@signature-params": {parameters}']).encode()


@dataclass(frozen=True)
class RequestSignature:
    """What ``Signature-Input`` and ``Signature`` say; nothing is trusted before `holds`."""

    key_id: str
    hub_key_id: str
    """The hub that the request is meant for."""
    created: int
    """Seconds since 1970, by the site's clock."""
    nonce: str
    value: bytes
    names: str

    def holds(self, key: PublicKey, parts: SignedParts) -> bool:
        """Whether ``key`` signed exactly these parts, none of them left out."""
        if self.names != parts.names() or key.key_id != self.key_id:
            return False
        return key.verifies(self.value, parts.base(self._parameters()))

    def _parameters(self) -> str:
        return (
            f'({self.names});created={self.created};keyid="{self.key_id}";alg="ed25519";'
            f'nonce="{self.nonce}";tag="{_TAG}{self.hub_key_id}"'
        )


def sign_request(
    key: SiteKey, hub_key_id: str, parts: SignedParts, *, created: int
) -> dict[str, str]:
    """The two header fields that sign ``parts``.

    Args:
        key: the site's.
        hub_key_id: the hub that the request is meant for.
        parts: of the request, as it will be sent.
        created: now, in seconds since 1970.
    """
    nonce = secrets.token_urlsafe(16)
    unsigned = RequestSignature(key.key_id, hub_key_id, created, nonce, b"", parts.names())
    parameters = unsigned._parameters()
    value = base64.b64encode(key.sign(parts.base(parameters))).decode()
    return {"Signature-Input": f"{_LABEL}={parameters}", "Signature": f"{_LABEL}=:{value}:"}


def read_signature(headers: Mapping[str, str]) -> RequestSignature | None:
    """The signature of a request; none if it has none, or one of another shape."""
    found = _INPUT.fullmatch(headers.get("Signature-Input", ""))
    signature = _SIGNATURE.fullmatch(headers.get("Signature", ""))
    if found is None or signature is None:
        return None
    return RequestSignature(
        found["key_id"],
        found["hub"],
        int(found["created"]),
        found["nonce"],
        base64.b64decode(signature["value"]),
        found["parts"],
    )
