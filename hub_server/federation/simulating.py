"""`pixcell-hub simulate`: a whole federation on one machine, with the apps of a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub_server.acts import Acts
from hub_server.federation.local_sites import real_nodes
from hub_server.federation.opening import open_round
from hub_server.federation.places import Places
from hub_server.federation.preparing import prepare
from hub_server.federation.rounds import RoundFolder
from hub_server.federation.simulated_nodes import simulated_nodes
from hub_server.federation.simulated_sites import SimulatedSite, join, make_hub, make_sites
from hub_server.federation.typed import called, said, served
from hub_server.home import HubHome
from pixcell_share.federation import RoundKind

ENCODER = "shared"
"""How the names of encoders begin that the hub trains on all cohorts."""
_ACTOR = "operator:simulate"
Words = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """A simulation."""

    out: Path
    """Its folder; run again, it goes on with the same hub, sites and data."""
    sites: int = 2
    slides: tuple[Path, ...] = ()
    """A folder for each site; none draws tiles."""
    local: bool = False
    """Real nodes as processes, with TLS and keys, in place of simulated ones."""
    rounds: Mapping[RoundKind, Words] = field(default_factory=lambda: {RoundKind.COHORT: {}})
    """What is asked, one round after the other, as `prepare` takes it."""
    wait_s: float = 3600.0
    """How long a round waits for answers."""
    train_steps: int = 60
    """Of the encoder; 0 trains none."""


@dataclass(frozen=True)
class Simulated:
    """What came of it."""

    hub: Path
    rounds: Sequence[RoundFolder]
    leaderboard: Sequence[dict[str, Any]]
    """Of the encoder that the hub trained on all cohorts, beside ``nano``."""


def simulate(settings: SimulateSettings, say: Callable[[str], None]) -> Simulated:
    """Make a hub and its sites, hold rounds among them, train an encoder on the cohorts.

    Raises:
        PixcellError: a part of it cannot be made, or a run fails.
    """
    folder = settings.out.resolve()
    say(f"data and keys of {settings.sites} sites")
    hub, sites = make_hub(folder), make_sites(folder, settings.sites, settings.slides)
    with served(hub, federation=settings.local) as address:
        for site in sites:
            join(hub, site, address)
        say(f"the hub is at {address}, {len(sites)} sites have joined")
        held = hold_rounds(HubHome(hub), sites, settings, say)
    cohorts = [cohort for one in held for cohort in one.load().result.get("cohorts", [])]
    board = _trained(hub, folder, cohorts, settings.train_steps, say)
    return Simulated(hub, held, board)


def hold_rounds(
    home: HubHome,
    sites: Sequence[SimulatedSite],
    settings: SimulateSettings,
    say: Callable[[str], None],
) -> list[RoundFolder]:
    """Hold the rounds of the settings among sites that have joined a hub that is served.

    Raises:
        PixcellError: Flower does not start, or a run fails.
    """
    nodes = real_nodes if settings.local else simulated_nodes
    held: list[RoundFolder] = []
    with nodes(home, sites) as carry, Acts.opened(home, _ACTOR) as acts:
        for kind, words in settings.rounds.items():
            document, arrays = prepare(acts, kind, words)
            wanted = open_round(
                acts, kind, document, arrays, expected=len(sites), wait_s=settings.wait_s
            )
            say(f"round {wanted.id[:8]}: {kind}")
            carry(wanted)
            held.append(RoundFolder(Places(home).rounds / wanted.id))
    return held


def _trained(
    hub: Path, folder: Path, cohorts: Iterable[str], steps: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train the hub's encoder on the cohorts, and test it on drawn tiles beside ``nano``."""
    chosen = [word for cohort in cohorts for word in ("--cohort", cohort)]
    if not chosen or not steps:
        return []
    tiles = folder / "data" / "test-tiles"
    if not tiles.exists():
        called("pixcell-site", "demo-tiles", tiles)
    name = f"{ENCODER}-{len(said('pixcell-hub', 'jobs', '--home', hub)['jobs'])}"
    say(f"training the encoder {name} on {len(chosen) // 2} cohorts")
    called("pixcell-hub", "train", *chosen, "--steps", steps, "--name", name, "--home", hub)
    for encoder in (name, "nano"):
        called("pixcell-hub", "evaluate", "--encoder", encoder, "--dataset", tiles, "--home", hub)
    rows: list[dict[str, Any]] = said("pixcell-hub", "leaderboard", "--home", hub)["rows"]
    return [row for row in rows if row["encoder"] in (name, "nano")]
