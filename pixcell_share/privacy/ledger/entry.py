"""One line of the ledger: typed, signed, and chained to the line before it.

A line is canonical JSON. Its digest is the SHA-256 of its bytes; the next line holds it as
``previous``, and the first holds a digest of the site's key. So no line can be changed, removed or
moved without the key, save at the end, which ``ledger.head`` guards.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from pixcell_share.bundles import PublicKey, SiteKey
from pixcell_share.errors import LedgerError
from pixcell_share.files import canonical_json
from pixcell_share.privacy.ledger.budget import Exposure

Kind = Literal["spend", "released"]
ENTRY_DOMAIN = b"pixcell-share/ledger/entry/v1\0"
HEAD_DOMAIN = b"pixcell-share/ledger/head/v1\0"
"""Said before what is signed, so that no signature of the key passes for one of another use."""
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading damaged JSON can raise."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SHA256 = re.compile(r"[0-9a-f]{64}")
REMEDY = (
    "put the last good copy of the ledger back from a backup; a new ledger would forget what was "
    "spent"
)


@dataclass(frozen=True)
class Entry:
    """A spend, or the note that its bundle was signed."""

    sequence: int
    """1 for the first entry."""
    previous: str
    """SHA-256 of the line before; for the first see `genesis`."""
    time: datetime
    """UTC, in whole seconds, never earlier than the entry before."""
    kind: Kind
    """``spend`` before a bundle is signed, ``released`` after."""
    release: str
    """SHA-256 of the inputs of the release, 64 hex digits."""
    exposures: Mapping[str, Exposure] = field(default_factory=dict)
    """What each patient is charged, by pseudonym; empty for ``released``."""
    bundle: str | None = None
    """SHA-256 of the bundle's manifest, for ``released``."""

    def to_line(self, key: SiteKey) -> bytes:
        """The signed line, with the newline that ends it."""
        values = self._values()
        signature = key.sign(ENTRY_DOMAIN + canonical_json(values)).hex()
        return canonical_json(values | {"signature": signature}) + b"\n"

    def _values(self) -> dict[str, Any]:
        return {
            "sequence": self.sequence,
            "previous": self.previous,
            "time": self.time.strftime(_TIME),
            "kind": self.kind,
            "release": self.release,
            "exposures": {name: paid.to_json() for name, paid in self.exposures.items()},
            "bundle": self.bundle,
        }


def read_line(line: bytes, number: int, key: PublicKey) -> Entry:
    """The entry of one line.

    Args:
        line: without its newline.
        number: the place of the line in the file, from 1.
        key: the site's.

    Raises:
        LedgerError: it is no entry, or was not signed by this key.
    """
    try:
        values = json.loads(line)
        signature = bytes.fromhex(values.pop("signature"))
        entry, signed = _entry(values), ENTRY_DOMAIN + canonical_json(values)
    except UNREADABLE as error:
        raise LedgerError(f"line {number} of the ledger is not an entry", REMEDY) from error
    if not key.verifies(signature, signed):
        raise LedgerError(
            f"line {number} of the ledger was edited, or was signed by another key", REMEDY
        )
    return entry


# Most patients are charged alike: without this a large ledger takes twice the time and memory.
_exposure = lru_cache(maxsize=1 << 16)(Exposure)


def _entry(values: dict[str, Any]) -> Entry:
    time = datetime.strptime(values["time"], _TIME).replace(tzinfo=UTC)
    exposures = {name: _exposure(**paid) for name, paid in values["exposures"].items()}
    if values["kind"] not in ("spend", "released"):
        raise ValueError("unknown kind")
    return Entry(**{**values, "time": time, "exposures": exposures})


def line_digest(line: bytes) -> str:
    """SHA-256 of a line without its newline."""
    return hashlib.sha256(line).hexdigest()


def genesis(key: PublicKey) -> str:
    """What the first entry follows: it binds the ledger to the key."""
    return hashlib.sha256(b"pixcell-share/ledger/genesis/v1\0" + key.key_id.encode()).hexdigest()


def is_sha256(text: str) -> bool:
    """Whether ``text`` is 64 hex digits in lower case."""
    return _SHA256.fullmatch(text) is not None
