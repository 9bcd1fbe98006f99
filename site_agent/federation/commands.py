"""The commands of `pixcell-site` for federations. They parse, call and print."""

from __future__ import annotations

from typing import Annotated

import typer

from pixcell_share import console
from site_agent.options import Home, Json


def approve(
    sha256: Annotated[
        str | None, typer.Argument(help="Hash of the app bundle, as the hub's operator read it.")
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Approve this one no more.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Approve the app that a hub may start here, by its hash. Without one, show which is known.

    The app brings no code: it names parts of this installed program. Compare the hash with the
    hub's operator by telephone; another version of the program has another hash.

    \b
    pixcell-site approve
    pixcell-site approve 3a6dbab2e7ca04398db3585a5690eb3230608daef9431b53768b395981e06f17
    """
    from pixcell_share.federation.app_bundle import build_app_bundle, bundle_hash
    from pixcell_share.federation.environment import settle
    from site_agent.federation.approvals import Approvals
    from site_agent.federation.places import Places
    from site_agent.federation.printing import show_approvals
    from site_agent.home import SiteHome

    places = Places(SiteHome.locate(home))
    approvals = Approvals(places.approved)
    if sha256 is not None:
        (approvals.withdraw if withdraw else approvals.approve)(sha256)
    settle(places.flower)
    show_approvals(approvals.hashes(), bundle_hash(build_app_bundle()), as_json)


def agent(home: Home = None) -> None:
    """Take part in the federation of the hub that this site joined, until Ctrl-C or SIGTERM.

    Connects out and stays: it comes back by itself after a restart of the hub, a renewed
    certificate or a broken network. What a hub may ask is set under [federation] in site.toml.

    Example: pixcell-site agent
    """
    from site_agent.federation.agent import run_agent
    from site_agent.federation.logs import log_to
    from site_agent.federation.places import Places
    from site_agent.home import SiteHome

    place = SiteHome.locate(home)
    place.config()
    log_to(Places(place).log)
    run_agent(place, lambda text: console.output().print(text, highlight=False))


def status(home: Home = None, as_json: Json = False) -> None:
    """Show what the agent does, what a hub may ask, and what became of its rounds.

    Example: pixcell-site status
    """
    from site_agent.federation.printing import show_status
    from site_agent.federation.status import status_of
    from site_agent.home import SiteHome

    show_status(status_of(SiteHome.locate(home)), as_json)
