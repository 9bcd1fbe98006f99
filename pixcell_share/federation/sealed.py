"""Signed documents of a federation, whichever way they travel.

The transport knows nodes; a round is between a hub and sites, each known by an Ed25519 key. So the
hub signs what it asks and a site signs what it answers: whoever gets into the SuperLink, or holds a
copy of a node's key, can neither ask a site for anything nor answer in its place.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pixcell_share.bundles.keys import PublicKey, SiteKey, parse_public_key
from pixcell_share.errors import KeyFileError
from pixcell_share.files import canonical_json

MAX_BYTES = 1 << 20
"""A document is words and figures; arrays travel beside it and are named by digest."""


class SealError(Exception):
    """A document is not signed by the expected key, or is none."""


@dataclass(frozen=True)
class Sealed:
    """A document with its signature."""

    payload: bytes
    """Canonical JSON."""
    signer: str
    """The public key in PEM; whether it is the right one is for the reader to say."""
    signature: bytes

    @classmethod
    def seal(cls, document: dict[str, Any], purpose: str, key: SiteKey) -> Sealed:
        """Sign ``document`` for one purpose, ``request`` or ``answer``."""
        payload = canonical_json(document)
        return cls(payload, key.public_pem.decode(), key.sign(_message(purpose, payload)))

    @property
    def sha256(self) -> str:
        """Of the document, 64 hex digits."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def key_id(self) -> str:
        """The fingerprint of the signer's key.

        Raises:
            SealError: there is no such key.
        """
        return self._key.key_id

    def open(self, purpose: str, key_id: str) -> dict[str, Any]:
        """The document, if the key of this fingerprint signed it for ``purpose``.

        Raises:
            SealError: it did not, or this is no document.
        """
        message = _message(purpose, self.payload)
        if len(self.payload) > MAX_BYTES or self._key.key_id != key_id:
            raise SealError("not signed by the expected key")
        if not self._key.verifies(self.signature, message):
            raise SealError("the signature does not hold")
        try:
            document = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise SealError("no JSON") from error
        if not isinstance(document, dict):
            raise SealError("no object")
        return document

    @cached_property
    def _key(self) -> PublicKey:
        try:
            return parse_public_key(self.signer.encode(), "the signer's key")
        except KeyFileError as error:
            raise SealError("no key") from error


def _message(purpose: str, payload: bytes) -> bytes:
    """What is signed: the purpose keeps a signature from meaning anything elsewhere."""
    return f"pixcell-share/federation/{purpose}/v1\n".encode() + payload
