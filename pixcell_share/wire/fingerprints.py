"""Fingerprints as two people read them to each other."""

from __future__ import annotations

import hmac
import re

_SEPARATORS = re.compile(r"[\s:-]+")


def readable(fingerprint: str) -> str:
    """A fingerprint in groups of four digits: ``3f2a 91c0 ...``."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, len(fingerprint), 4))


def plain_fingerprint(given: str) -> str:
    """What a person typed, without grouping and in small letters."""
    return _SEPARATORS.sub("", given).lower()


def same_fingerprint(given: str, known: str) -> bool:
    """Whether ``given`` is ``known``, however it was grouped and whatever its case."""
    return hmac.compare_digest(plain_fingerprint(given).encode(), known.encode())
