"""Fingerprints as two people read them to each other."""

from __future__ import annotations

import hmac
import re

_SEPARATORS = re.compile(r"[\s:-]+")


def readable(fingerprint: str) -> str:
    """A fingerprint in groups of four digits: ``3f2a 91c0 ...``."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, len(fingerprint), 4))


def same_fingerprint(given: str, known: str) -> bool:
    """Whether ``given`` is ``known``, however it was grouped and whatever its case."""
    plain = _SEPARATORS.sub("", given).lower()
    return hmac.compare_digest(plain.encode(), known.encode())
