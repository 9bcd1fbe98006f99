"""The agent and a hub that is away, renewed, somebody else, or of another time; without Flower."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub_server import tls
from hub_server.acts import Acts
from hub_server.federation.nodes import NodeBook
from hub_server.federation.places import Places as HubPlaces
from hub_server.home import HubHome
from pixcell_share.errors import MembershipError, SettingsError
from site_agent.federation import agent as agent_module
from site_agent.federation import introducing
from site_agent.federation.agent import Agent
from site_agent.federation.agent_state import AgentState
from site_agent.federation.introducing import Introduction
from site_agent.federation.places import Places
from site_agent.home import SiteHome
from site_agent.hub_link import HubLink
from tests.federation.served_federation import until
from tests.site_agent.served_hub import ThreadHub, admit


@dataclass
class Nodes:
    """In place of SuperNodes: which were started, and whether the last one lives."""

    started: list[Introduction] = field(default_factory=list)
    alive: bool = False
    code: int = 0

    @contextmanager
    def running(self, places: Places, known: Introduction) -> Iterator[Nodes]:
        self.started.append(known)
        self.alive = True
        yield self
        self.alive = False

    def news(self) -> tuple[str, str]:
        return "connected", ""


@dataclass
class Stage:
    """A member and its hub."""

    hub: ThreadHub
    site: SiteHome
    nodes: Nodes
    failed: list[BaseException] = field(default_factory=list)

    @property
    def places(self) -> Places:
        return Places(self.site)

    def state(self) -> tuple[str, str]:
        seen = AgentState.seen(self.places.agent_state)
        return (seen.state, seen.detail) if seen else ("", "")

    def waits_for(self, words: str) -> None:
        until(lambda: self.state()[0] == "waiting" and words in self.state()[1], 20)

    def is_connected(self) -> None:
        until(lambda: self.state()[0] == "connected" and self.nodes.alive, 20)

    @contextmanager
    def agent(self) -> Iterator[Agent]:
        made = Agent(self.site, lambda text: None, finish_s=20)

        def run() -> None:
            try:
                made.run()
            except BaseException as error:
                self.failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield made
        finally:
            made.stop()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    home = HubHome(tmp_path / "hub")
    home.initialise("Hub of the tests", "https://localhost:8443")
    site = SiteHome(tmp_path / "site")
    site.initialise("Hospital A")
    (home.folder / "federation").mkdir()
    hub = ThreadHub(home).start()
    admit(home, site, hub.port)
    nodes = Nodes()
    monkeypatch.setattr(agent_module, "running", nodes.running)
    for name, seconds in {
        "_LOOK_EVERY_S": 0.05, "_MEET_EVERY_S": 0.2, "_FIRST_PAUSE_S": 0.1,
        "_LONGEST_PAUSE_S": 0.2, "_LAST_WORDS_S": 0.1,
    }.items():  # fmt: skip
        monkeypatch.setattr(agent_module, name, seconds)
    yield Stage(hub, site, nodes)
    hub.stop()


def test_it_comes_back_after_a_restart_and_takes_a_renewed_certificate(stage: Stage) -> None:
    first = stage.hub.home.certificate.read_text()
    with stage.agent():
        stage.is_connected()
        stage.hub.stop()
        stage.nodes.alive = False  # as a SuperNode that gives up
        stage.waits_for("does not answer")
        renew(stage.hub.home)
        stage.hub.start()
        until(lambda: len(stage.nodes.started) > 1, 20)
        stage.is_connected()
    old, new = stage.nodes.started[0], stage.nodes.started[-1]
    assert old.certificate == first != new.certificate == stage.hub.home.certificate.read_text()
    assert stage.places.hub_certificate.read_text() == new.certificate
    assert stage.state()[0] == "stopped" and not stage.failed


def test_a_certificate_that_is_renewed_while_it_is_connected_ends_the_old_connection(
    stage: Stage,
) -> None:
    with stage.agent():
        stage.is_connected()
        stage.hub.stop()
        renew(stage.hub.home)
        stage.hub.start()
        until(lambda: len(stage.nodes.started) > 1, 20)
    assert stage.nodes.started[-1].certificate == stage.hub.home.certificate.read_text()


def test_an_expired_certificate_of_the_hub_lets_nobody_connect(stage: Stage) -> None:
    stage.hub.stop()
    renew(stage.hub.home, age=timedelta(days=400))
    stage.hub.start()
    with stage.agent():
        stage.waits_for("does not answer")
        assert not stage.nodes.started
        stage.hub.stop()
        renew(stage.hub.home)
        stage.hub.start()
        stage.is_connected()


def test_it_tells_nothing_to_somebody_else_at_the_hubs_address(
    stage: Stage, tmp_path: Path
) -> None:
    port = stage.hub.port
    stage.hub.stop()
    other = HubHome(tmp_path / "other")
    other.initialise("Hub of the tests", "https://localhost:8443")
    impostor = ThreadHub(other, port).start()
    try:
        with stage.agent():
            stage.waits_for("another fingerprint")
            assert not stage.nodes.started
    finally:
        impostor.stop()
    assert not NodeBook(HubPlaces(other)).keys()
    assert HubLink.load(stage.site).hub_key_id == stage.hub.home.load_key().key_id
    stage.hub.start()


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [(3600, "clock"), (-3600, "clock"), (60, "before the hub's"), (-600, "behind the hub's")],
)
def test_clocks_that_are_too_far_apart_are_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, ahead_s: int, words: str
) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(monkeypatch.context())
        turn_clock(wrong, ahead_s)
        stack.enter_context(stage.agent())
        stage.waits_for(words)
        assert not stage.nodes.started
        turn_clock(wrong, -60 if ahead_s < 0 else 3)
        stage.is_connected()


def test_a_site_that_is_no_member_any_more_ends(stage: Stage) -> None:
    with stage.agent() as agent:
        stage.is_connected()
        with Acts.opened(stage.hub.home, "operator") as acts:
            acts.revoke("Hospital A", "left the consortium")
        until(lambda: bool(stage.failed), 20)
        del agent
    assert isinstance(stage.failed[0], MembershipError)


def test_a_second_agent_of_a_site_does_not_start(stage: Stage) -> None:
    with stage.agent():
        stage.is_connected()
        with pytest.raises(SettingsError, match="runs already"):
            Agent(stage.site, lambda text: None).run()


def test_it_stops_once_the_work_has_come_to_its_next_tile(stage: Stage) -> None:
    seen: list[bool] = []

    def work() -> None:
        """As a round does between tiles."""
        until(stage.places.stop_file.exists, 20)
        seen.append(stage.nodes.alive)
        stage.places.working.unlink()

    with stage.agent() as agent:
        stage.is_connected()
        stage.places.working.write_text("{}")
        worker = threading.Thread(target=work)
        worker.start()
        agent.stop()
        worker.join(30)
    assert seen == [True]  # the connection was kept for the answer
    assert not stage.places.stop_file.exists() and stage.state()[0] == "stopped"


def renew(home: HubHome, age: timedelta = timedelta()) -> None:
    """Another certificate in the place of the hub's own, made some time ago."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tls, "datetime", SimpleNamespace(now=lambda zone: datetime.now(UTC) - age))
        tls.write_certificate(home.certificate, home.certificate_key, "https://localhost")


def turn_clock(patch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """Of the site alone: what signs its requests, and what it compares."""
    from time import time

    from site_agent import hub_client

    clock: Any = SimpleNamespace(time=lambda: time() + ahead_s)
    patch.setattr(hub_client, "time", clock)
    patch.setattr(introducing, "time", clock)
