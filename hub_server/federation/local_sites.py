"""Sites as processes of this machine: each an agent, with TLS and a node key as in a hospital."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from hub_server.federation.opening import watch_round
from hub_server.federation.places import Places
from hub_server.federation.rounds import Round, RoundFolder
from hub_server.federation.simulated_sites import SimulatedSite
from hub_server.federation.typed import program, said
from hub_server.home import HubHome

_STOP_S = 30.0


@contextmanager
def real_nodes(home: HubHome, sites: Sequence[SimulatedSite]) -> Iterator[Callable[[Round], None]]:
    """What waits until a round is over, which the served hub carries to the sites' agents.

    Args:
        home: of a hub that is served with ``--federation``.
        sites: that have joined it.
    """
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(agent(site))
        yield lambda wanted: _watch(home, wanted)


@contextmanager
def agent(site: SimulatedSite) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of a site that approves this version's app, until the block ends."""
    own = said("pixcell-site", "approve", "--home", site.home)["this_version"]
    said("pixcell-site", "approve", own, "--home", site.home)
    words = [program("pixcell-site"), "agent", "--home", str(site.home)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(home: HubHome, wanted: Round) -> None:
    watch_round(RoundFolder(Places(home).rounds / wanted.id))
