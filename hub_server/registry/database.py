"""The registry's database: SQLite by default, PostgreSQL by its URL.

Units of work that write take SQLite's lock at their start (``BEGIN IMMEDIATE``), so that none is
refused half way; those that only read never wait for a writer (WAL), and see one moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from hub_server.registry.failures import is_gone, plain_errors
from hub_server.registry.upgrading import is_current, upgrade
from pixcell_share.errors import SettingsError

T = TypeVar("T")
_READ_ONLY = "pixcell_read_only"
_PRAGMAS = ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL")
_POSTGRES: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""So that a server that vanished without a word is noticed within a minute."""


@dataclass(frozen=True)
class DatabaseSettings:
    """How the hub treats its database."""

    patience_s: float = 90.0
    """How long to try again while the database is away: a restart of PostgreSQL, and more."""
    busy_s: float = 30.0
    """How long to wait for another process that writes to the same SQLite file."""
    connections: int = 10
    """Kept open, at most; twice as many more while they are needed."""


class Registry:
    """The hub's records.

    Args:
        url: an SQLAlchemy URL: ``sqlite:////folder/hub.db``, or ``postgresql://user@host/name``.
        settings: how long to wait and to try again.

    Raises:
        SettingsError: ``url`` is neither SQLite nor PostgreSQL.
    """

    def __init__(self, url: str, settings: DatabaseSettings = DatabaseSettings()) -> None:
        self.url = _checked(url)
        self.engine = _engine(self.url, settings)
        self._settings = settings
        snapshot = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self.engine.execution_options(
            **{_READ_ONLY: True, "postgresql_readonly": True, **snapshot}
        )

    def upgrade(self) -> None:
        """Make the tables, or bring older ones to the present form.

        Raises:
            DatabaseError: the database stayed away.
        """
        with plain_errors(self.url):
            self._patiently(lambda: upgrade(self.engine))

    def is_current(self) -> bool:
        """Whether the tables have the form that this program needs.

        Raises:
            DatabaseError: the database stayed away.
        """
        with plain_errors(self.url):
            return self._patiently(lambda: is_current(self.engine))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One unit of work that writes: all of it is kept, or nothing.

        The database is waited for before the block begins, not within it; see `run`.

        Raises:
            DatabaseError: the database stayed away, or went away within the block.
            StateError: somebody else did the same thing at the same moment.
        """
        with self._begun(self.engine) as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One unit of work that only reads, all of it at one moment. A write in it is refused.

        Raises:
            DatabaseError: the database stayed away, or went away within the block.
        """
        with self._begun(self._reader) as session:
            yield session

    def run(self, work: Callable[[Session], T]) -> T:
        """``work`` as one unit, from the start again where the connection was lost within it.

        Args:
            work: may be called again after a loss. A connection lost during the commit leaves open
                whether it was kept, so doing ``work`` twice must come out as doing it once.

        Raises:
            DatabaseError: the database stayed away.
            StateError: somebody else did the same thing at the same moment.
        """

        def attempt() -> T:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                return work(session)

        with plain_errors(self.url):
            return self._patiently(attempt)

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    @property
    def _is_sqlite(self) -> bool:
        return self.url.drivername == "sqlite"

    @contextmanager
    def _begun(self, engine: Engine) -> Iterator[Session]:
        with plain_errors(self.url), Session(engine, expire_on_commit=False) as session:
            self._patiently(session.connection)
            yield session

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """``attempt`` until the database is there, or patience has run out."""
        deadline = time.monotonic() + self._settings.patience_s
        pause = 0.1
        while True:
            try:
                return attempt()
            except (DBAPIError, PoolTimeoutError) as error:
                if not is_gone(error) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _wrong_url() from error
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise _wrong_url()


def _engine(url: URL, settings: DatabaseSettings) -> Engine:
    options: dict[str, Any] = {
        "pool_size": settings.connections,
        "max_overflow": 2 * settings.connections,
        "json_serializer": partial(json.dumps, ensure_ascii=False, allow_nan=False),
    }
    if url.drivername != "sqlite":
        return create_engine(url, pool_pre_ping=True, connect_args=_POSTGRES, **options)
    engine = create_engine(url, connect_args={"timeout": settings.busy_s}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 begins nothing by itself; _begin_sqlite does
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql(f"PRAGMA query_only = {int(read_only)}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _wrong_url() -> SettingsError:
    return SettingsError(
        "database: is not the URL of an SQLite file or of PostgreSQL",
        "write sqlite:////folder/hub.db or postgresql://user@host/name",
    )
