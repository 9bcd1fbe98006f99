"""Keys of a storage: made by the hub, and still not trusted to be no paths."""

from __future__ import annotations

import re

from pixcell_share.errors import NotFoundError

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAX_SEGMENTS = 8


def names_of(key: str) -> list[str]:
    """The names in ``key``.

    Raises:
        ValueError: it is no key.
    """
    if not is_key(key):
        raise ValueError(f"{key!r} is no key of the storage")
    return key.split("/")


def is_key(key: str) -> bool:
    """Whether it is one to eight names with ``/`` between."""
    names = key.split("/")
    return len(names) <= _MAX_SEGMENTS and all(map(_SEGMENT.fullmatch, names))


def missing(key: str) -> NotFoundError:
    """There is no file of that key."""
    return NotFoundError(f"the storage has no {key}", "it was deleted, or never written")
