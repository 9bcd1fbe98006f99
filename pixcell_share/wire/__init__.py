"""What sites and hubs say to each other over HTTPS: signed requests and the hub's own statement.

The protocol is described in ``docs/hub-api.md``.
"""

from pixcell_share.wire.digests import content_digest, parse_content_digest
from pixcell_share.wire.hub_statement import HubStatement, certificate_sha256
from pixcell_share.wire.offers import FileOffer, UploadOffer, offer_of
from pixcell_share.wire.refusals import Refusal
from pixcell_share.wire.signing import (
    CREATED_WINDOW_S,
    RequestSignature,
    SignedParts,
    read_signature,
    sign_request,
)

__all__ = [
    "CREATED_WINDOW_S",
    "FileOffer",
    "HubStatement",
    "Refusal",
    "RequestSignature",
    "SignedParts",
    "UploadOffer",
    "certificate_sha256",
    "content_digest",
    "offer_of",
    "parse_content_digest",
    "read_signature",
    "sign_request",
]
