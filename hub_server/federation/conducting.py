"""Conduct a round from its folder: what the server app does, and what goes on after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from flwr.serverapp import Grid
from sqlalchemy.orm import Session

from hub_server.federation.asking import Asking
from hub_server.federation.places import Places
from hub_server.federation.rounds import RoundFolder
from hub_server.home import HubHome
from hub_server.registry import sites
from pixcell_share.federation import RoundKind

_log = logging.getLogger(__name__)

_CONDUCTORS = {
    RoundKind.COHORT: "cohort_round",
    RoundKind.ADAPTER: "adapter_round",
    RoundKind.ENCODER: "encoder_round",
    RoundKind.PROBE: "probe_round",
}
"""The module of each kind, whose `conduct` asks, and makes something of the answers. Only that of
the round is imported: some need seconds of PyTorch."""


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
        result = _conductor(wanted.kind)(asking)
    finally:
        registry.close()
    folder.close("done", result)
    home.log().append(
        "round.close", actor="federation", subject=number, details={"kind": wanted.kind.value}
    )


def _conductor(kind: RoundKind) -> Callable[[Asking], Mapping[str, Any]]:
    module = import_module(f"hub_server.federation.{_CONDUCTORS[kind]}")
    found: Callable[[Asking], Mapping[str, Any]] = module.conduct
    return found


def _name_of(session: Session, key_id: str) -> str:
    return sites.signer(session, key_id).site.name
