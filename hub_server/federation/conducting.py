"""Conduct a round from its folder: what the server app does, and what goes on after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from flwr.serverapp import Grid
from sqlalchemy.orm import Session

from hub_server.federation import adapter_round, cohort_round, encoder_round, probe_round
from hub_server.federation.asking import Asking
from hub_server.federation.places import Places
from hub_server.federation.rounds import RoundFolder
from hub_server.home import HubHome
from hub_server.registry import sites
from pixcell_share.federation import RoundKind

_log = logging.getLogger(__name__)

CONDUCTORS: dict[RoundKind, Callable[[Asking], Mapping[str, Any]]] = {
    RoundKind.COHORT: cohort_round.conduct,
    RoundKind.ADAPTER: adapter_round.conduct,
    RoundKind.ENCODER: encoder_round.conduct,
    RoundKind.PROBE: probe_round.conduct,
}
"""What the hub does for each kind: it asks, and makes something of the answers."""


def conduct(home: HubHome, grid: Grid, number: str) -> None:
    """Ask what the round ``number`` asks, and close it. A closed round is left as it is.

    Raises:
        NotFoundError: there is no such round.
        PixcellError: the hub's own files or database fail; the round stays open.
    """
    folder = RoundFolder(Places(home).rounds / number)
    wanted = folder.load()
    if wanted.state != "open":
        return
    registry = home.registry()

    def site_of(key_id: str) -> str:
        with registry.reading() as session:
            return _name_of(session, key_id)

    try:
        asking = Asking(grid, folder, wanted, home.load_key(), site_of)
        result = CONDUCTORS[wanted.kind](asking)
    finally:
        registry.close()
    folder.close("done", result)
    home.log().append(
        "round.close", actor="federation", subject=number, details={"kind": wanted.kind.value}
    )


def _name_of(session: Session, key_id: str) -> str:
    return sites.signer(session, key_id).site.name
