"""The registry's database: its form, its units of work, and what happens when it goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, select, text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from hub_server.registry import (
    DatabaseSettings,
    JobKind,
    Registry,
    Site,
    SiteState,
    jobs,
    sites,
    sqlite_url,
    upgrading,
)
from hub_server.registry.columns import Base
from pixcell_share.errors import DatabaseError, SettingsError, StateError
from tests.hub_server.postgres import PostgresServer


def add_site(session: Session, name: str) -> None:
    session.add(Site(name=name, name_key=name.casefold(), status=SiteState.INVITED))


def names(registry: Registry) -> list[str]:
    with registry.reading() as session:
        return [site.name for site in sites.list_sites(session)]


def test_the_migrations_make_what_the_tables_say(registry: Registry) -> None:
    with registry.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_make_the_constraints_too(sqlite_registry: Registry, tmp_path: Path) -> None:
    """`compare_metadata` does not look at checks; SQLite keeps the statements, which have them."""
    made = Registry(sqlite_url(tmp_path / "made.db"))
    Base.metadata.create_all(made.engine)

    def statements(database: Registry) -> dict[str, list[str]]:
        with database.engine.connect() as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql > ''"))
            found = {name: sorted(sql.replace(",", "\n").split()) for name, sql in rows}
        found.pop("alembic_version", None)
        return found

    assert statements(sqlite_registry) == statements(made)


def test_upgrading_twice_changes_nothing(registry: Registry) -> None:
    with registry.session() as session:
        add_site(session, "A")
    assert registry.is_current()
    registry.upgrade()
    assert registry.is_current()
    assert names(registry) == ["A"]


def test_a_second_process_waits_for_the_first_ones_upgrade(postgres_registry: Registry) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    second = threading.Thread(target=postgres_registry.upgrade)
    with postgres_registry.engine.begin() as first, postgres_registry.engine.connect() as watch:
        upgrading.wait_for_others(first)
        second.start()
        for _ in range(600):
            if watch.scalar(waiting):
                break
            time.sleep(0.1)
        assert second.is_alive()
    second.join(60)
    assert not second.is_alive()


def test_a_database_without_tables_is_not_current(tmp_path: Path) -> None:
    assert not Registry(sqlite_url(tmp_path / "new.db")).is_current()


def test_a_unit_of_work_is_kept_whole_or_not_at_all(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.session() as session:
        add_site(session, "A")
        session.flush()
        _ = 1 / 0
    assert names(registry) == []
    with registry.session() as session:
        add_site(session, "A")
        add_site(session, "B")
    assert names(registry) == ["A", "B"]


def test_reading_cannot_write(registry: Registry) -> None:
    refused = pytest.raises((DatabaseError, InternalError), match=r"readonly|read-only")
    with refused, registry.reading() as session:
        add_site(session, "A")
        session.flush()
    with registry.session() as session:
        add_site(session, "B")
    assert names(registry) == ["B"]


def test_reading_sees_one_moment(registry: Registry) -> None:
    with registry.reading() as session:
        assert sites.list_sites(session) == []
        with registry.session() as writer:
            add_site(writer, "A")
        assert session.scalars(select(Site.name)).all() == []
    assert names(registry) == ["A"]


def test_who_comes_second_is_told_so(registry: Registry) -> None:
    with registry.session() as session:
        add_site(session, "A")
    with pytest.raises(StateError, match="same moment"), registry.session() as session:
        add_site(session, "A")


def test_the_sqlite_file_survives_a_crash_and_holds_its_references(
    sqlite_registry: Registry,
) -> None:
    with sqlite_registry.engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///:memory:", "mysql://host/hub", "hub"])
def test_a_url_of_another_database_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="not the URL"):
        Registry(url)


def test_a_locked_sqlite_file_is_named(sqlite_registry: Registry) -> None:
    hasty = Registry(str(sqlite_registry.url), DatabaseSettings(busy_s=0.01))
    with sqlite_registry.session() as session:
        add_site(session, "A")
        session.flush()
        with pytest.raises(DatabaseError, match="locked"), hasty.session():
            pass
        with hasty.reading() as reader:
            assert sites.list_sites(reader) == []


def test_no_server_is_not_waited_for_beyond_patience(tmp_path: Path) -> None:
    url = f"postgresql://nobody:secret@/hub?host={tmp_path}"
    registry = Registry(url, DatabaseSettings(patience_s=0.15))
    with pytest.raises(DatabaseError, match="does not answer") as told, registry.session():
        pass
    assert "secret" not in told.value.cause


def test_a_server_that_refuses_is_not_waited_for(postgres: PostgresServer) -> None:
    registry = Registry(postgres.url("no_such_database"), DatabaseSettings(patience_s=1e6))
    with pytest.raises(DatabaseError, match="does not exist"), registry.session():
        pass


def stop_and_start(postgres: PostgresServer, registry: Registry, work: Callable[[], None]) -> None:
    """Run ``work`` while the server is down; start it when ``work`` has been refused once."""
    refused = threading.Event()

    def note(_context: object) -> None:
        refused.set()

    event.listen(registry.engine, "handle_error", note)
    postgres.stop()
    worker = threading.Thread(target=work)
    try:
        worker.start()
        assert refused.wait(60)
    finally:
        postgres.start()
    worker.join(60)
    assert not worker.is_alive()


def test_a_restart_of_the_server_is_waited_for(
    postgres: PostgresServer, postgres_registry: Registry
) -> None:
    registry = postgres_registry
    with registry.session() as session:
        add_site(session, "before")

    def work() -> None:
        with registry.session() as session:
            add_site(session, "meanwhile")

    stop_and_start(postgres, registry, work)
    assert names(registry) == ["before", "meanwhile"]


def cut(registry: Registry, session: Session) -> None:
    """Break the connection of ``session`` from the server's side."""
    number = session.scalar(text("SELECT pg_backend_pid()"))
    with registry.session() as other:
        other.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})


def test_work_is_done_again_where_the_connection_broke_within_it(
    postgres_registry: Registry,
) -> None:
    tries: list[int] = []

    def work(session: Session) -> str:
        jobs.enqueue(session, JobKind.TRAIN, {"try": len(tries)})
        tries.append(1)
        if len(tries) == 1:
            cut(postgres_registry, session)
        return jobs.enqueue(session, JobKind.EVALUATE, {}).id

    done = postgres_registry.run(work)
    with postgres_registry.reading() as session:
        kept = jobs.list_jobs(session)
    assert len(tries) == 2
    assert done in [job.id for job in kept]
    assert sorted((job.kind, job.settings) for job in kept) == [
        (JobKind.EVALUATE, {}),
        (JobKind.TRAIN, {"try": 1}),
    ]


def test_a_connection_that_breaks_within_a_session_keeps_nothing(
    postgres_registry: Registry,
) -> None:
    with (
        pytest.raises(DatabaseError, match="does not answer"),
        postgres_registry.session() as session,
    ):
        add_site(session, "A")
        session.flush()
        cut(postgres_registry, session)
        add_site(session, "B")
    assert names(postgres_registry) == []
