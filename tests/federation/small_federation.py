"""A hub and two sites on this machine, small enough for tests: everything real but the patients."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub_server.acts import Acts
from hub_server.federation.local_sites import agent
from hub_server.federation.opening import open_round, parse_ask, watch_round
from hub_server.federation.places import Places
from hub_server.federation.rounds import Round, RoundFolder
from hub_server.federation.simulated_sites import SimulatedSite, join
from hub_server.federation.typed import served
from hub_server.home import HubHome
from pixcell_share.federation import RoundKind
from pixcell_share.slides import draw_demo_slides
from site_agent.home import SiteHome
from tests.tiny import make_tiny_model

LENIENT = """\
site = "{name}"
[near_copies]
embedding_limit = 1.0
[limits]
patients = 1
class_patients = 1
retrieval_excess = 1.0
linkage_residual = 1.0
[budget]
releases = 100
epsilon = 100
[federation]
rounds = {rounds}
slides = "{slides}"
table = "{table}"
patients = 1
tiles_per_class = 8
device = "cpu"
encoder = "nano"
weights = "{model}/encoder"
[federation.models]
nano = "{model}"
"""
SMALL = {"tiles_per_class": "1", "steps": "2"}


@dataclass
class SmallFederation:
    """A hub with members."""

    hub: HubHome
    sites: list[SimulatedSite]
    model: Path
    """What the sites call nano."""

    def allow(self, site: SimulatedSite, *rounds: str) -> None:
        """Write the site's policy."""
        text = LENIENT.format(
            name=site.name, rounds=json.dumps(rounds), slides=site.slides, table=site.table,
            model=self.model,
        )  # fmt: skip
        SiteHome(site.home).config_file.write_text(text)

    def open(self, kind: RoundKind, words: dict[str, str], **how: object) -> Round:
        """Open a round."""
        with Acts.opened(self.hub, "operator:test") as acts:
            return open_round(acts, kind, parse_ask(kind, words), **how)

    def folder(self, one: Round) -> RoundFolder:
        return RoundFolder(Places(self.hub).rounds / one.id)

    def answers(self, one: Round) -> dict[str, tuple[str, str]]:
        """Outcome and reason of each site."""
        found = self.folder(one).answers()
        return {h.site: (h.answer.outcome.value, h.answer.reason.value) for h in found}

    def watch(self, one: Round) -> Round:
        return watch_round(self.folder(one))

    @contextmanager
    def served(self, *agents: SimulatedSite) -> Iterator[str]:
        """The hub with its SuperLink, and agents of sites that have joined."""
        with served(self.hub.folder, federation=True) as address, ExitStack() as stack:
            for site in agents:
                join(self.hub.folder, site, address)
                stack.enter_context(agent(site))
            yield address


def draw_small_site(folder: Path, number: int) -> SimulatedSite:
    """Six patients with four tiles each."""
    slides = folder / "slides"
    draw_demo_slides(slides, count=6, seed=number, canvas=(512, 512))
    site = SimulatedSite(f"Site {number + 1}", folder / "home", None, slides)
    SiteHome(site.home).initialise(site.name)
    return site


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    """One for all tests of a worker: rounds leave traces, and are told apart by their numbers."""
    folder = tmp_path_factory.mktemp("federation")
    hub = HubHome(folder / "hub")
    hub.initialise("Hub of the tests", "https://localhost:8443")
    sites = [draw_small_site(folder / f"site-{number}", number) for number in range(2)]
    made = SmallFederation(hub, sites, make_tiny_model(folder / "model"))
    for site in sites:
        made.allow(site, "cohort")
    return made


def run(*words: object, environment: dict[str, str], seconds: float = 60) -> tuple[int, str]:
    """A program to its end, or to the end of patience: code and what it wrote."""
    try:
        done = subprocess.run(
            [str(word) for word in words], env=environment, timeout=seconds, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=environment["FLWR_HOME"],
        )  # fmt: skip
    except subprocess.TimeoutExpired as over:
        return -1, (over.stdout or b"").decode()
    return done.returncode, done.stdout
