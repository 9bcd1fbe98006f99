"""Random numbers that nobody can tell or repeat without the site's secret.

Each purpose and step has a key of its own, HMAC-SHA256 (RFC 2104) of the secret; the numbers are
the keystream of ChaCha20 (RFC 8439) under that key, from the `cryptography` package. Unlike
Philox or the Mersenne twister, which pass statistical tests, it is a cipher: whoever sees much of
the noise learns nothing of the rest. And it repeats: a step that is done again after a crash gets
the same noise, so that it is the same release and not a second one.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray
from scipy.special import ndtri

from pixcell_share.errors import SettingsError
from pixcell_share.files import canonical_json

GENERATOR = "ChaCha20 (RFC 8439), keyed by HMAC-SHA256 for each step"
Doubles = NDArray[np.float64]

_PURPOSE = "pixcell-share private training, version 1"
_SHORTEST = 32
_NORMALS = 4
"""Independent normals whose sum is one: the lowest bits of a single floating-point normal tell the
sum that it was added to (Mironov, CCS 2012). With four, as in opacus' ``secure_mode``, an attacker
would have to search 2^159 sums (Holohan and Braghin, ESORICS 2021, section 5.1)."""


class SecretStream:
    """All randomness of one training that its guarantee rests on.

    Args:
        secret: of the site, at least 32 bytes.
        about: everything that decides the training's output. Two trainings that differ get
            independent numbers: noise that they shared would cancel in their difference.

    Raises:
        SettingsError: the secret is too short.
    """

    def __init__(self, secret: bytes, about: Any) -> None:
        if len(secret) < _SHORTEST:
            raise SettingsError(
                f"the secret has {len(secret)} bytes, {_SHORTEST} are the least",
                "use the key that SiteKey.derive gives",
            )
        self._key = hmac.digest(secret, canonical_json([_PURPOSE, about]), hashlib.sha256)

    def uniform(self, count: int, purpose: str, *parts: int) -> Doubles:
        """(count,) numbers in the open interval from 0 to 1, in steps of 2^-52."""
        key = hmac.digest(self._key, canonical_json([purpose, *parts]), hashlib.sha256)
        words = np.frombuffer(keystream(key, 8 * count), dtype="<u8")
        # 52 bits: with 53 the half would be rounded away, and 1 itself has an infinite normal.
        numbers: Doubles = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return numbers

    def normal(self, count: int, purpose: str, *parts: int) -> Doubles:
        """(count,) standard normal numbers: the inverse distribution function of uniform ones."""
        parts_of_sum = ndtri(self.uniform(_NORMALS * count, purpose, *parts))
        total: Doubles = parts_of_sum.reshape(_NORMALS, count).sum(0) / np.sqrt(_NORMALS)
        return total

    def seed(self, purpose: str) -> int:
        """A seed from 0 to 2^63 - 1 for what no guarantee rests on."""
        key = hmac.digest(self._key, canonical_json([purpose]), hashlib.sha256)
        return int.from_bytes(key[:8], "little") >> 1


def keystream(key: bytes, length: int) -> bytes:
    """The first bytes of ChaCha20 under a key that is used once: nonce and counter are zero."""
    cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
    return cipher.encryptor().update(bytes(length))
