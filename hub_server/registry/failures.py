"""What a database's errors mean to the hub: gone for a while, refused, or a race that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pixcell_share.errors import DatabaseError, StateError
from pixcell_share.wire import Refusal

_REFUSALS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "not permitted")
"""In what a server says that answers and lets nobody in: waiting will not help."""
_GOING = ("57P", "08", "40")
"""SQLSTATE classes of a server that goes down or comes up, of broken connections, and of units of
work that stood in each other's way."""


def is_gone(error: Exception) -> bool:
    """Whether the database went away or did not answer; trying again may help."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or (
        isinstance(error, OperationalError) and _is_postgres(error) and _may_come_back(error)
    )


@contextmanager
def plain_errors(url: URL) -> Iterator[None]:
    """Turn what the driver raises into errors that a person can act on.

    Raises:
        DatabaseError: the database is gone, locked, full or refuses.
        StateError: somebody else did the same thing at the same moment.
    """
    try:
        yield
    except IntegrityError as error:
        raise StateError(
            "somebody else changed the same records at the same moment",
            "look at them, then try again",
            Refusal.CONFLICT,
        ) from error
    except (OperationalError, PoolTimeoutError) as error:
        where = url.render_as_string(hide_password=True)
        if is_gone(error):
            cause = f"the database {where} does not answer, or not in time"
        else:
            cause = f"the database {where} failed: {_first_line(error)}"
        remedy = "start it or make room for it, or mend `database` in hub.toml; then try again"
        raise DatabaseError(cause, remedy) from error


def _is_postgres(error: OperationalError) -> bool:
    return type(error.orig).__module__.startswith("psycopg")


def _may_come_back(error: OperationalError) -> bool:
    """psycopg knows no SQLSTATE where no session came about; then only the words are left."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_GOING)
    return not any(words in str(error.orig) for words in _REFUSALS)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).partition("\n")[0]
