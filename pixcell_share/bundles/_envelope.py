"""DSSE: a signed payload in one JSON file.

Protocol and envelope: https://github.com/secure-systems-lab/dsse (v1.0.2). A bundle narrows it
so that no bit of the file is free: one signature, standard base64, and the canonical JSON text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pixcell_share.bundles._fields import Fields
from pixcell_share.bundles._json import parse_json
from pixcell_share.bundles.faults import Fault
from pixcell_share.bundles.keys import PublicKey, SiteKey
from pixcell_share.errors import FormatError, SignatureError
from pixcell_share.files import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_RESEND = "ask the site to send the bundle again; if it comes out the same, do not use it"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: ``DSSEv1 SP LEN(type) SP type SP LEN(body) SP body``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is, and one signature over both."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    @classmethod
    def sign(cls, payload: bytes, key: SiteKey, payload_type: str = PAYLOAD_TYPE) -> Envelope:
        """Sign ``payload``."""
        signature = key.sign(pre_authentication_encoding(payload_type, payload))
        return cls(payload, payload_type, key.key_id, signature)

    def to_document(self) -> dict[str, Any]:
        """The envelope as plain values."""
        signature = {"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode()}
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [signature],
        }

    def to_bytes(self) -> bytes:
        """The envelope file."""
        return canonical_json(self.to_document())

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Envelope:
        """Parse the envelope file ``name``; nothing is trusted yet.

        Raises:
            FormatError: it is not an envelope, or not in canonical form.
            SignatureError: it has no signature, or more than one.
        """
        fields = Fields.root(name, parse_json(data, name))
        signatures = list(fields.objects("signatures"))
        if len(signatures) != 1:
            raise SignatureError(
                f"{name} has {len(signatures)} signatures, and a bundle has exactly one",
                _RESEND,
                Fault.SIGNATURE_COUNT,
            )
        envelope = cls(
            _decoded(fields, "payload"),
            fields.text("payloadType"),
            signatures[0].text("keyid"),
            _decoded(signatures[0], "sig"),
        )
        if envelope.to_bytes() != data:
            raise FormatError(f"{name} is not in canonical form", _RESEND, Fault.ENVELOPE_MALFORMED)
        return envelope

    def check(self, trusted: Iterable[PublicKey], name: str) -> PublicKey:
        """The trusted key that signed this envelope.

        The key id only chooses the key to try; what counts is that the signature holds.

        Raises:
            SignatureError: signed by a key that is not trusted, or the signature does not hold.
            FormatError: the payload is not an in-toto statement.
        """
        keys = {key.key_id: key for key in trusted}
        key = keys.get(self.key_id)
        if key is None:
            shown = ascii(self.key_id)[1:-1][:64]
            raise SignatureError(
                f"{name} is signed by the key {shown}, which is not trusted",
                "compare that fingerprint with the site by phone, then give its key with --trust",
                Fault.KEY_UNKNOWN,
            )
        signed = pre_authentication_encoding(self.payload_type, self.payload)
        if not key.verifies(self.signature, signed):
            raise SignatureError(
                f"{name}: the signature does not hold, so the file was changed after signing",
                _RESEND,
                Fault.SIGNATURE_WRONG,
            )
        if self.payload_type != PAYLOAD_TYPE:
            raise FormatError(
                f"{name}: field payloadType is not {PAYLOAD_TYPE!r}",
                _RESEND,
                Fault.PAYLOAD_TYPE_UNKNOWN,
            )
        return key


def _decoded(fields: Fields, name: str) -> bytes:
    text = fields.any(name)
    if not isinstance(text, str):
        raise fields.wrong(name, "is not a text", Fault.ENVELOPE_MALFORMED)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.wrong(name, "is not base64", Fault.ENVELOPE_MALFORMED) from error
