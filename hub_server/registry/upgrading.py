"""Bring the tables of a database to the form that this program needs (Alembic)."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select

_ALEMBIC = threading.Lock()
"""Alembic's context belongs to the whole process."""
_LOCK = 0x7069_7863_656C
"""PostgreSQL's advisory lock of the hub: "pixcel" in ASCII."""
_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Apply the migrations that are missing, all in one transaction, one process at a time."""
    config = _config()
    with _ALEMBIC, engine.begin() as connection:
        wait_for_others(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def wait_for_others(connection: Connection) -> None:
    """Until the transaction ends no other process upgrades; SQLite has locked its file by now."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def is_current(engine: Engine) -> bool:
    """Whether no migration is missing."""
    heads = ScriptDirectory.from_config(_config()).get_heads()
    with engine.connect() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == set(heads)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
