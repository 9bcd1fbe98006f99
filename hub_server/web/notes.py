"""What a page says once, after a form was sent: the form is answered by a redirect (303).

Kept in memory for the person who sent the form, and shown once: an invitation's code is in no
address, no cookie and no database.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pixcell_share.errors import PixcellError

_MOST = 1000


@dataclass(frozen=True)
class Note:
    """One message."""

    text: str
    remedy: str = ""
    """What to do next."""
    refused: bool = False
    """Whether the form was refused."""
    form: str = ""
    """Which form of the page it belongs to, to fill that in again or to show more about it."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What is filled in again, or shown with the message."""

    @classmethod
    def refusal(cls, error: PixcellError, form: str, values: Mapping[str, str]) -> Note:
        """Why a form was refused."""
        return cls(error.cause, error.remedy, True, form, dict(values))


NOTHING = Note("")
"""Shown as nothing."""


class Notes:
    """Messages that wait for their page; the oldest are dropped where too many wait."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, str], Note] = OrderedDict()
        self._lock = threading.Lock()

    def leave(self, account_id: str, note: Note) -> str:
        """Keep a note for a person.

        Returns:
            The ticket that `take` wants.
        """
        ticket = secrets.token_urlsafe(16)
        with self._lock:
            self._waiting[account_id, ticket] = note
            while len(self._waiting) > _MOST:
                self._waiting.popitem(last=False)
        return ticket

    def take(self, account_id: str, ticket: str) -> Note:
        """The note, once; `NOTHING` if it is not there, or not this person's."""
        with self._lock:
            return self._waiting.pop((account_id, ticket), NOTHING)
