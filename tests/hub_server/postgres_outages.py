"""A hub whose registry is on PostgreSQL, and a PostgreSQL that stops where a test wants it to."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hub_server.home import HubHome
from tests.hub_server.attacked_hub import FLOOR
from tests.hub_server.postgres import PostgresServer
from tests.hub_server.web_calls import BASE, CHEAP

AWAY_S = 0.4
"""How long the server stays away; long enough to be refused, and to try again."""


def make_postgres_hub(server: PostgresServer, folder: Path, more: str = "") -> HubHome:
    """A hub in ``folder`` with a database of its own.

    Args:
        server: where its registry is.
        folder: its home.
        more: further lines of hub.toml.
    """
    name = f"hub_{secrets.token_hex(4)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    folder.mkdir()
    home = HubHome(folder)
    settings = f'name = "Hub of the outages"\nurl = "{BASE}"\ndatabase = "{server.url(name)}"\n'
    home.config_file.write_text(settings + FLOOR + CHEAP + more)
    home.initialise()
    return home


class Outage:
    """Stops the server once, within a call, and starts it again from another thread.

    Args:
        server: which one.
        at: the calls after which it stops are counted from 1; 0 never stops it.
    """

    def __init__(self, server: PostgresServer, at: int = 1) -> None:
        self._server, self._left = server, at
        self._starting: threading.Thread | None = None

    @property
    def happened(self) -> bool:
        """Whether the server was stopped."""
        return self._starting is not None

    def after(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """``real``, after which the server may stop."""

        def call(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            self._left -= 1
            if self._left == 0:
                self._stop()
            return result

        return call

    def end(self) -> None:
        """Wait until the server is there again."""
        if self._starting is not None:
            self._starting.join()

    def _stop(self) -> None:
        self._server.stop()
        self._starting = threading.Thread(target=self._start)
        self._starting.start()

    def _start(self) -> None:
        threading.Event().wait(AWAY_S)
        self._server.start()


@contextmanager
def outage(
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[Any, str]],
    at: int = 1,
) -> Iterator[Outage]:
    """Let the server stop after the call number ``at`` of any of the steps, for a moment."""
    planned = Outage(server, at)
    try:
        with monkeypatch.context() as patch:
            for owner, name in steps:
                patch.setattr(owner, name, planned.after(getattr(owner, name)))
            yield planned
    finally:
        planned.end()
