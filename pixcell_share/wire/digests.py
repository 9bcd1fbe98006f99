"""``Content-Digest`` of RFC 9530, with SHA-256 and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re

_FIELD = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def content_digest(body: bytes) -> str:
    """The field's value for ``body``."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def parse_content_digest(value: str) -> bytes | None:
    """The 32 bytes that the field names; none if it is anything but one SHA-256."""
    found = _FIELD.fullmatch(value)
    return base64.b64decode(found[1]) if found else None
