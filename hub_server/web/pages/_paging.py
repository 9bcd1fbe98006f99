"""Long lists, a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Request

T = TypeVar("T")
SIZE = 50


@dataclass(frozen=True)
class Part(Generic[T]):
    """Some of a list."""

    items: Sequence[T]
    number: int
    """1 for the first part."""
    parts: int
    total: int
    """Of the whole list."""
    before: str
    """Address of the part before; empty for the first."""
    after: str
    """Address of the part after; empty for the last."""


def pages_of(items: Sequence[T], number: int, request: Request, size: int = SIZE) -> Part[T]:
    """The part of that number, or the nearest that there is; its links keep all other filters."""
    parts = max(1, -(-len(items) // size))
    number = min(max(1, number), parts)

    def link(to: int) -> str:
        return f"?{urlencode({**request.query_params, 'part': to})}" if 1 <= to <= parts else ""

    shown = items[(number - 1) * size : number * size]
    return Part(shown, number, parts, len(items), link(number - 1), link(number + 1))
