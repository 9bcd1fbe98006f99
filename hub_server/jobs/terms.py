"""Terms of data and weights that cannot be kept together. A record of what was read, no advice.

What forbids commercial use carries over to the encoder. Share-alike terms ask that what is made of
the data has the same terms: two of them, or one that allows commercial use beside data that do not,
leave no terms that an encoder could have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from pixcell_share.errors import SettingsError

_SHARE_ALIKE = re.compile(r"\bsa\b|^a?gpl\b|^odbl\b", re.IGNORECASE)
_NONCOMMERCIAL = re.compile(r"\bnc\b", re.IGNORECASE)
_VERSION = re.compile(r"[-\s]*v?\d[\d.]*.*$")


class Terms(Protocol):
    """A source of tiles."""

    @property
    def name(self) -> str:
        """For the message."""

    @property
    def licences(self) -> tuple[str, ...]:
        """Its terms."""

    @property
    def noncommercial(self) -> bool:
        """Whether one of them forbids commercial use."""


def check_terms(sources: Sequence[Terms]) -> None:
    """Refuse sources whose terms cannot be kept together.

    Raises:
        SettingsError: naming two of them.
    """
    alike = [
        (source.name, licence)
        for source in sources
        for licence in source.licences
        if _SHARE_ALIKE.search(licence)
    ]
    for name, licence in alike:
        for other, its in alike:
            if _family(its) != _family(licence):
                raise _conflict(name, licence, other, its)
        for source in sources:
            if source.noncommercial and not _NONCOMMERCIAL.search(licence):
                raise _conflict(name, licence, source.name, "no commercial use")


def _family(licence: str) -> str:
    """The licence without its version: later ones of a family go together."""
    return _VERSION.sub("", licence).casefold()


def _conflict(name: str, licence: str, other: str, its: str) -> SettingsError:
    return SettingsError(
        f"{name} ({licence}) and {other} ({its}) have terms that one encoder cannot keep",
        "train on them apart, or ask the owners for other terms",
    )
