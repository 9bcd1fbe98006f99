"""Numbers that only the site can compute: streams of Philox under keys from HMAC-SHA256."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import numpy as np

from pixcell_share.errors import SettingsError
from pixcell_share.files import canonical_json

_SHORTEST = 16


def keyed_generator(secret: bytes, purpose: str, *parts: Any) -> np.random.Generator:
    """A stream of random numbers for one purpose.

    The key is 128 bits of HMAC-SHA256 (RFC 2104) over purpose and parts; the stream is Philox
    4x64-10 (Salmon et al., SC 2011), which numpy keeps the same across versions and machines.
    Philox passes the statistical tests of its field but was not designed as a cipher.

    Args:
        secret: of the site; at least 16 bytes.
        purpose: what the numbers are for.
        parts: what else they depend on, as JSON can hold it.

    Raises:
        SettingsError: the secret is too short to be one.
    """
    if len(secret) < _SHORTEST:
        raise SettingsError(
            f"the secret has {len(secret)} bytes, {_SHORTEST} are the least",
            "use the key that SiteKey.derive gives",
        )
    digest = hmac.digest(secret, canonical_json([purpose, *parts]), hashlib.sha256)
    key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
