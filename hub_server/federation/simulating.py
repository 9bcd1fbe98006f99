"""`pixcell-hub simulate`: a whole federation on one machine, with the apps of a real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub_server.federation.control import Control
from hub_server.federation.places import Places
from hub_server.federation.rounds import Heard, Round, RoundFolder
from hub_server.federation.simulated_sites import SimulatedSite, join, make_hub, make_sites
from hub_server.federation.superlink import simulating
from hub_server.federation.typed import served
from hub_server.home import HubHome
from pixcell_share.federation import CohortAsk, RoundKind
from pixcell_share.files import atomic_write_text

SITES = "PIXCELL_SIMULATED_SITES"
"""As `site_agent.federation.where` reads it."""


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """A simulation."""

    out: Path
    """Its folder; run again, it goes on with the same hub, sites and data."""
    sites: int = 2
    slides: tuple[Path, ...] = ()
    """A folder for each site; none draws tiles."""
    ask: CohortAsk = CohortAsk()
    wait_s: float = 3600.0


@dataclass(frozen=True)
class Simulated:
    """What came of it."""

    hub: Path
    round: Round
    answers: Sequence[Heard]


def simulate(settings: SimulateSettings, say: Callable[[str], None]) -> Simulated:
    """Make a hub and its sites, and hold one cohort round among them.

    Raises:
        PixcellError: a part of it cannot be made, or the run fails.
    """
    folder = settings.out.resolve()
    say(f"data and keys of {settings.sites} sites")
    hub, sites = make_hub(folder), make_sites(folder, settings.sites, settings.slides)
    with served(hub) as address:
        for site in sites:
            join(hub, site, address)
        say(f"the hub is at {address}, {len(sites)} sites have joined")
        answers, held = hold_round(hub, sites, settings, say)
    return Simulated(hub, held, answers)


def hold_round(
    hub: Path,
    sites: Sequence[SimulatedSite],
    settings: SimulateSettings,
    say: Callable[[str], None],
) -> tuple[Sequence[Heard], Round]:
    """One round in Flower's simulation of the sites."""
    places = Places(HubHome(hub))
    wanted = RoundFolder.begin(
        places.rounds, RoundKind.COHORT, settings.ask.document(),
        expected=len(sites), wait_s=settings.wait_s,
    )  # fmt: skip
    listed = places.folder / "simulated.json"
    atomic_write_text(listed, json.dumps([str(site.home) for site in sites]))
    variables = {SITES: str(listed), "PIXCELL_HUB_HOME": str(hub)}
    say(f"round {wanted.id[:8]}: {wanted.kind}")
    with simulating(places, variables) as link:
        control = Control(link.address)
        try:
            run = control.start(wanted.id, nodes=len(sites))
            control.await_end(run, lambda: link.alive)
        finally:
            control.close()
    folder = RoundFolder(places.rounds / wanted.id)
    return folder.answers(), folder.load()
