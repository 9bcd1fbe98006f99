"""64 simulated sites, a tenth of which fails at random in every exchange of an adapter round.

The hub, its server app and Flower's simulation are those of `pixcell-hub simulate`; the sites have
keys, homes and ledgers of their own, and share three folders of drawn tiles.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from _failing_site import DOWN, KILLED, LOST, PLAN, RAISES, STAGES
from _process_watch import ProcessWatch

from hub_server.acts import Acts
from hub_server.federation import control
from hub_server.federation.opening import open_round
from hub_server.federation.places import Places
from hub_server.federation.preparing import prepare
from hub_server.federation.rounds import RoundFolder
from hub_server.federation.simulated_nodes import simulated_nodes
from hub_server.federation.simulated_sites import SimulatedSite
from hub_server.home import HubHome
from pixcell_share.federation import Request, RoundKind, Sealed
from pixcell_share.federation.adapter_asks import AdapterAsk
from pixcell_share.federation.app_bundle import CLIENT_APP, source_files
from pixcell_share.training.base import Base
from site_agent.federation.answering import answer
from site_agent.federation.places import Places as SitePlaces
from site_agent.home import SiteHome
from site_agent.hub_link import HubLink
from tests.federation.own_tiles_site import draw_own_tiles, policy

PATIENTS = (6, 9, 12)
"""Of the sites, in turn: FedAvg weighs by them."""


@dataclass(frozen=True)
class LoadSettings:
    """How much."""

    sites: int = 64
    exchanges: int = 20
    share: float = 0.1
    """Of the sites that fail in an exchange."""
    lost_every: int = 10
    """In one of so many exchanges answers get lost, too: the hub waits `wait_s` for them."""
    wait_s: float = 240.0
    seed: int = 0

    @property
    def words(self) -> dict[str, str]:
        """What is asked: one step for each exchange."""
        count = str(self.exchanges)
        return {
            "rounds": count, "steps": count, "epsilon": "8", "patients_per_step": "2",
            "tiles_per_patient": "1",
        }  # fmt: skip


Plan = dict[str, dict[str, tuple[str, str]]]


def draw_plan(settings: LoadSettings) -> Plan:
    """Who fails in which exchange, how, and at which stage."""
    chance = np.random.default_rng(settings.seed)
    failing = round(settings.share * settings.sites + 0.5)
    plan: Plan = {}
    for step in range(settings.exchanges):
        ways = [KILLED, DOWN, RAISES]
        if step % settings.lost_every == 1:
            ways.append(LOST)
        sites = chance.choice(settings.sites, failing, replace=False)
        plan[str(step)] = {
            str(site): (str(chance.choice(ways)), str(chance.choice(list(STAGES))))
            for site in sites
        }
    return plan


class Federation:
    """A hub and its members.

    Args:
        folder: empty.
        settings: how much.
    """

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        self.folder, self.settings = folder, settings
        self.hub = HubHome(folder / "hub")
        self.hub.initialise("hub", "https://localhost:8443")
        self._tiles = [draw_own_tiles(folder / f"tiles-{n}", n, 1) for n in PATIENTS]
        self._latents = [self._encoded(tiles) for tiles in self._tiles]
        with Acts.opened(self.hub, "operator:benchmark") as acts:
            self.sites = [self._member(acts, number) for number in range(settings.sites)]

    def _member(self, acts: Acts, number: int) -> SimulatedSite:
        """One that joined without the network: these rounds send no cohorts."""
        tiles = self._tiles[number % len(PATIENTS)]
        site = SimulatedSite(f"Site {number}", self.folder / f"site-{number}", tiles, None)
        home, hub = SiteHome(site.home), self.hub.load_key()
        key = home.initialise(site.name)
        home.config_file.write_text(home.config_file.read_text() + "\n" + policy(tiles))
        acts.join(acts.invite(site.name).code, site.name, key.public_pem)
        acts.admit(site.name, key.key_id)
        HubLink("https://localhost:8443", "hub", hub.key_id, "").save(home)
        shutil.copytree(self._latents[number % len(PATIENTS)], SitePlaces(home).folder / "latents")
        return site

    def _encoded(self, tiles: Path) -> Path:
        """The latents of tiles, as a site makes them before its first step; 64 would for long."""
        home = SiteHome(tiles.with_name(f"{tiles.name}-encoded"))
        key = home.initialise("encodes")
        home.config_file.write_text(home.config_file.read_text() + "\n" + policy(tiles))
        ask = AdapterAsk(rounds=1, steps=1, epsilon=8.0, patients_per_step=2, tiles_per_patient=1,
                         base_sha256=Base.load("nano").sha256)  # fmt: skip
        request = Request("a" * 32, RoundKind.ADAPTER, ask.document())
        sealed = Sealed.seal(request.document(), "request", key)
        assert answer(home, key.key_id, RoundKind.ADAPTER, sealed, {}).arrays
        return SitePlaces(home).folder / "latents"

    def train(self, plan: Plan) -> tuple[RoundFolder, ProcessWatch, list[float]]:
        """One adapter round; the round, memory, and when its exchanges began and the last ended."""
        notes = self.folder / "notes"
        notes.mkdir()
        (notes / "plan.json").write_text(json.dumps(plan))
        os.environ[PLAN] = str(notes / "plan.json")
        os.environ["PYTHONPATH"] = os.pathsep.join(
            (str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")]))
        )
        roles = {"server_app": "flwr-simulation", "superlink": "flower-superlink",
                 "site_workers": "ray::"}  # fmt: skip
        with (
            ProcessWatch(roles) as watch,
            mock.patch.object(control, "build_app_bundle", failing_bundle),
            simulated_nodes(self.hub, self.sites) as carry,
            Acts.opened(self.hub, "operator:benchmark") as acts,
        ):
            ask, arrays = prepare(acts, RoundKind.ADAPTER, self.settings.words)
            wanted = open_round(
                acts, RoundKind.ADAPTER, ask, arrays, expected=len(self.sites),
                wait_s=self.settings.wait_s, gather_s=3.0,
            )  # fmt: skip
            carry(wanted)
        moments = [
            (notes / f"sent-{step}.npz").stat().st_mtime for step in range(self.settings.exchanges)
        ]
        folder = RoundFolder(Places(self.hub).rounds / wanted.id)
        return folder, watch, [*moments, (folder.folder / "round.json").stat().st_mtime]


def failing_bundle() -> bytes:
    """The app of this version, with `_failing_site` as its client app."""
    from flwr.cli.build import build_fab_from_files

    files = source_files()
    text = files["pyproject.toml"].decode()
    assert CLIENT_APP in text
    files["pyproject.toml"] = text.replace(CLIENT_APP, "_failing_site:app").encode()
    bundle: bytes = build_fab_from_files(files)[0]
    return bundle
