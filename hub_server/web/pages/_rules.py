"""Who may see and send what, as the routes of the pages write it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from hub_server.registry import Role
from hub_server.web.access import EVERYONE, READERS, require_role
from hub_server.web.sessions import Person

Anybody = Annotated[Person, Depends(require_role(*EVERYONE))]
"""Everybody who is logged in."""
Reader = Annotated[Person, Depends(require_role(*READERS))]
"""Operators and auditors: they see everything."""
Operator = Annotated[Person, Depends(require_role(Role.OPERATOR))]
"""They change things."""
Choice = Annotated[str, Query(max_length=200)]
"""A value of a filter; empty: all."""


def reads_all(person: Person) -> bool:
    """Whether somebody sees everything, or only what was accepted."""
    return person.role in READERS
