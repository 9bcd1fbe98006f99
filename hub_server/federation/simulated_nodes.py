"""Sites as nodes of Flower's simulation: its workers play them in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hub_server.federation.control import Control
from hub_server.federation.places import Places
from hub_server.federation.rounds import Round
from hub_server.federation.simulated_sites import SimulatedSite
from hub_server.federation.superlink import simulating
from hub_server.home import HubHome
from pixcell_share.federation.environment import spare_loopback
from pixcell_share.files import atomic_write_text

SITES = "PIXCELL_SIMULATED_SITES"
"""As `site_agent.federation.where` reads it."""


@contextmanager
def simulated_nodes(
    home: HubHome, sites: Sequence[SimulatedSite]
) -> Iterator[Callable[[Round], None]]:
    """What carries a round to simulated nodes, until the block ends.

    Args:
        home: the hub's.
        sites: node after node.

    Raises:
        SuperLinkError: Flower does not start.
        RunFailedError: raised by what is yielded, if a run does not complete.
    """
    spare_loopback()
    places = Places(home)
    places.folder.mkdir(exist_ok=True, mode=0o700)
    listed = places.folder / "simulated.json"
    atomic_write_text(listed, json.dumps([str(site.home) for site in sites]))
    variables = {SITES: str(listed), "PIXCELL_HUB_HOME": str(home.folder)}
    with simulating(places, variables) as link:
        control = Control(link.address)

        def carry(wanted: Round) -> None:
            run = control.start(wanted.id, nodes=len(sites))
            control.await_end(run, lambda: link.alive)

        try:
            yield carry
        finally:
            control.close()
