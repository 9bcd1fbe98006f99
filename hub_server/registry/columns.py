"""How Python's types become columns, the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase

from hub_server.registry.states import (
    CohortState,
    JobKind,
    JobState,
    KeyState,
    Role,
    SiteState,
    SourceRole,
)

_CONSTRAINT_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, also in SQLite, which knows none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a time without a zone is a mistake of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def new_id() -> str:
    """A random id, 32 hex digits."""
    return uuid.uuid4().hex


def _choice(kind: type[StrEnum]) -> Enum:
    """The values of ``kind`` as texts, checked by the database."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        length=16,
        name=kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
    )


_JSON_TYPES: tuple[Any, ...] = (dict[str, Any], dict[str, int], list[str])
_CHOICES = (SiteState, KeyState, Role, CohortState, SourceRole, JobKind, JobState)
_COLUMN_TYPES: dict[Any, Any] = {
    datetime: UtcTime(),
    int: BigInteger(),
    str: String(),
    **{kind: JSON(none_as_null=True) for kind in _JSON_TYPES},
    **{kind: _choice(kind) for kind in _CHOICES},
}


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(naming_convention=_CONSTRAINT_NAMES)
    type_annotation_map = _COLUMN_TYPES
