"""Kills in the middle of a round: it goes on, counts nothing twice, and turns to nobody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hub_server.acts import Acts
from hub_server.federation.local_sites import agent
from hub_server.federation.places import Places
from hub_server.federation.simulated_sites import SimulatedSite, join
from hub_server.registry.cohorts import list_cohorts
from pixcell_share.federation import RoundKind
from site_agent.federation.places import Places as SitePlaces
from site_agent.home import SiteHome
from tests.federation.connect_proxy import ConnectProxy
from tests.federation.served_federation import until
from tests.federation.small_federation import SMALL, SmallFederation, small
from tests.federation.socket_guard import SocketGuard

__all__ = ["small"]  # a fixture
ATTEMPTS = 5
"""That fail, while the way out is gone, before it is there again."""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@pytest.mark.slow
def test_killed_and_cut_off_in_a_round_no_work_is_lost_and_nothing_counts_twice(
    small: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sites deployed, one of them behind a proxy; then both refuse what policy forbids."""
    guard = SocketGuard(tmp_path, monkeypatch)
    first, second = small.sites
    before = {site.name: releases(site) for site in small.sites}
    with ConnectProxy() as proxy, small.served(second) as address:
        join(small.hub.folder, first, address)
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with agent(first) as process:
            one = small.open(RoundKind.COHORT, SMALL, expected=2, wait_s=400)
            until(lambda: working(first) and working(second), 120)
            kill(mentioning(Places(small.hub).database))
            process.kill()
            kill(mentioning(SiteHome(first.home).folder))
        proxy.cut()
        with agent(first):
            until(lambda: proxy.refused > ATTEMPTS, 120)
            proxy.mend()
            held = small.watch(one)
            for site in small.sites:
                small.allow(site, "encoder")
            refused = small.open(RoundKind.COHORT, SMALL, expected=2, wait_s=300)
            assert small.watch(refused).state == "done"
    for site in small.sites:
        small.allow(site, "cohort")
    assert held.state == "done"
    assert set(small.answers(refused).values()) == {("refused", "not_allowed")}
    assert set(small.answers(refused)) == {"Site 1", "Site 2"}
    assert proxy.asked == {address.removeprefix("https://")}
    assert small.answers(one) == {"Site 1": ("done", ""), "Site 2": ("done", "")}
    assert {site.name: releases(site) - before[site.name] for site in small.sites} == {
        "Site 1": 1,
        "Site 2": 1,
    }
    with Acts.opened(small.hub, "test") as acts, acts.registry.reading() as session:
        kept = Counter(row.id for row in list_cohorts(session))
    assert all(kept[cohort] == 1 for cohort in held.result["cohorts"])
    assert guard.hosts() and not guard.hosts() - LOOPBACK - {socket.gethostname()}


def test_the_guard_sees_whoever_turns_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = SocketGuard(tmp_path, monkeypatch)
    program = """if True:
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("192.0.2.7", 9))
        s.sendto(b"", ("192.0.2.8", 9))
        try: socket.create_connection(("198.51.100.1", 1), 0.01)
        except OSError: pass
    """
    subprocess.run([sys.executable, "-c", program], check=False)
    assert {"192.0.2.7", "198.51.100.1"} <= guard.hosts()


def releases(site: SimulatedSite) -> int:
    """How many the site's ledger has charged."""
    home = SiteHome(site.home)
    return len(home.ledger(home.load_key()).verify().releases)


def working(site: SimulatedSite) -> bool:
    return SitePlaces(SiteHome(site.home)).working.exists()


def mentioning(path: Path) -> list[int]:
    """Processes whose words or environment name a path of this test's own."""
    found, own = [], str(path).encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if own in said and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def kill(processes: list[int]) -> None:
    """As a power cut does."""
    assert processes
    for process in processes:
        os.kill(process, signal.SIGKILL)
