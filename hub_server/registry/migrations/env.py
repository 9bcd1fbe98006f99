"""Alembic's entry: runs the migrations on the connection that `upgrading` gives."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from hub_server.registry.columns import Base, UtcTime


def _render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Migrations outlive the classes of today: they say what the database has."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by writing it anew
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
