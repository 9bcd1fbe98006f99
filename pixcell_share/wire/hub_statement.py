"""How a site knows a hub: by its key, which vouches for its certificate.

An invitation carries the fingerprint of the hub's key. The hub signs the digest of the certificate
that it shows, with a number that the site has just chosen; so one fingerprint is enough to compare,
a certificate can be renewed, and whoever stands between can repeat nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from dataclasses import asdict, dataclass
from typing import Any

from pixcell_share.bundles.keys import PublicKey, SiteKey, parse_public_key
from pixcell_share.errors import HubTrustError, KeyFileError
from pixcell_share.files import canonical_json

_CONTEXT = b"pixcell-share/hub/v1\n"
"""Keeps this signature from meaning anything elsewhere."""
NONCE_LENGTH = 22
"""16 random bytes in URL-safe base64."""


@dataclass(frozen=True)
class HubStatement:
    """What a hub says of itself."""

    name: str
    version: str
    public_key: str
    """The hub's key in PEM."""
    certificate_sha256: str
    """Of the TLS certificate in DER, 64 hex digits; empty where something before the hub has it."""
    nonce: str
    """What the site sent."""

    def sign(self, key: SiteKey) -> dict[str, Any]:
        """The statement as it is sent."""
        signature = base64.b64encode(key.sign(self._message())).decode()
        return {**asdict(self), "signature": signature}

    @classmethod
    def check(cls, document: Any, *, nonce: str) -> tuple[HubStatement, PublicKey]:
        """The statement and the key that signed it; the key is still to be compared.

        Raises:
            HubTrustError: it is no such statement, its signature does not hold, or it is old.
        """
        try:
            signature = base64.b64decode(document["signature"], validate=True)
            names = ("name", "version", "public_key", "certificate_sha256", "nonce")
            statement = cls(*(_text(document[name]) for name in names))
            key = parse_public_key(statement.public_key.encode(), "the hub's key")
        except (KeyError, TypeError, ValueError, binascii.Error, KeyFileError) as error:
            raise HubTrustError(
                "the address does not answer as a hub does", "check the URL with the hub's operator"
            ) from error
        if statement.nonce != nonce or not key.verifies(signature, statement._message()):
            raise HubTrustError(
                "the hub's statement about itself is not signed by its key",
                "do not go on: something stands between this machine and the hub; ask its operator",
            )
        return statement, key

    def _message(self) -> bytes:
        return _CONTEXT + canonical_json(asdict(self))


def certificate_sha256(pem: str) -> str:
    """SHA-256 of a certificate in DER, 64 hex digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError("not a text")
    return value
