"""One line of the log: who did what to whom, chained to the line before it.

A line is canonical JSON. Its digest is the SHA-256 of its bytes; the next line holds it as
``previous``, and the first holds a digest of the hub's key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pixcell_share.bundles import PublicKey
from pixcell_share.errors import HubLogError
from pixcell_share.files import canonical_json

MAX_LINE_BYTES = 1 << 16
REMEDY = "keep the files as they are, and compare them with a backup and with auditors' checkpoints"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Act:
    """What somebody did."""

    sequence: int
    """1 for the first."""
    previous: str
    """SHA-256 of the line before, 64 hex digits; for the first see `genesis`."""
    time: datetime
    """UTC, never earlier than the act before."""
    actor: str
    """Who, such as ``account:anna``, ``site:Uniklinik Köln`` or ``hub``."""
    act: str
    """What, such as ``site.admit`` or ``cohort.accept``."""
    subject: str
    """To whom or what: the name of a site or an account, the id of a cohort."""
    details: Mapping[str, Any]
    """Whatever else an auditor wants to know, as JSON."""

    def to_line(self) -> bytes:
        """The line, without a newline.

        Raises:
            ValueError: the details are no JSON, or the line is longer than `MAX_LINE_BYTES`.
        """
        json.dumps(self.details, allow_nan=False)
        line = self._canonical()
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"an act of {len(line)} bytes")
        return line

    def _canonical(self) -> bytes:
        return canonical_json(vars(self) | {"time": self.time.strftime(_TIME)})


def read_act(line: bytes, number: int) -> Act:
    """The act of one line.

    Args:
        line: without its newline.
        number: the place of the line in the file, from 1.

    Raises:
        HubLogError: it is no act in canonical form.
    """
    try:
        values = json.loads(line)
        act = Act(**values | {"time": datetime.fromisoformat(values["time"]).astimezone(UTC)})
        if isinstance(act.details, dict) and act.sequence == number and act._canonical() == line:
            return act
    except _UNREADABLE as error:
        raise _no_act(number) from error
    raise _no_act(number)


def line_digest(line: bytes) -> str:
    """SHA-256 of a line without its newline, 64 hex digits."""
    return hashlib.sha256(line).hexdigest()


def genesis(key: PublicKey) -> str:
    """What the first act follows: it binds the log to the hub's key."""
    return hashlib.sha256(b"pixcell-share/hub-log/genesis/v1\n" + key.key_id.encode()).hexdigest()


def _no_act(number: int) -> HubLogError:
    return HubLogError(f"line {number} of the log is not act {number}, or was edited", REMEDY)
