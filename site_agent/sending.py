"""Send a bundle to the hub, and wait for what the hub says about it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcell_share.files import atomic_write_bytes, canonical_json
from pixcell_share.progress import View
from site_agent.delivery import Delivery, SendSettings
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink
from site_agent.outbox import Outbox
from site_agent.patience import Patience

_FIRST_LOOK_S, _LONGEST_LOOK_S = 1.0, 15.0
_OVER = ("accepted", "rejected", "withdrawn")
"""States of a cohort that the hub does not change by itself."""


@dataclass(frozen=True)
class SendOutcome:
    """What became of a bundle."""

    hub: str
    bundle: str
    """Its digest."""
    state: str
    reason: str
    """Code of a rejection."""
    detail: str
    """A rejection in words."""
    bytes_sent: int
    """By this run."""
    seconds: float
    summary: Path | None
    """The hub's signed summary of what it checked, once the cohort is accepted."""

    @property
    def exit_code(self) -> int:
        """1 where the hub refused the bundle."""
        return int(self.state in ("rejected", "withdrawn"))


def send(bundle: Path, home: SiteHome, view: View, settings: SendSettings) -> SendOutcome:
    """Send ``bundle`` to the hub that the site joined; an earlier run is gone on with.

    Raises:
        SettingsError: the site has joined no hub.
        BundleError: the folder holds no whole bundle of this site.
        HubError: the hub refuses it, or does not answer for longer than the settings allow.
    """
    began, key = time.monotonic(), home.load_key()
    box, link = Outbox.open(home, bundle, key.public), HubLink.load(home)
    with HubClient(link, key, lambda renewed: renewed.save(home)) as client:
        delivery = Delivery(client, box, view, settings)
        status = delivery.deliver()
        if settings.wait:
            status = await_verdict(client, status, view, settings)
    return SendOutcome(
        hub=link.hub,
        bundle=box.offer.bundle_digest,
        state=status["state"],
        reason=status["reason"] or "",
        detail=status["detail"] or "",
        bytes_sent=delivery.bytes_sent,
        seconds=time.monotonic() - began,
        summary=_keep_summary(box, status["summary"]),
    )


def await_verdict(
    client: HubClient, status: dict[str, Any], view: View, settings: SendSettings
) -> dict[str, Any]:
    """Look until the hub has decided about a bundle.

    Args:
        client: the hub's.
        status: what the hub said last.
        view: told each state.
        settings: how long to go on without an answer.

    Raises:
        HubError: the hub does not answer for longer than that.
    """
    patience = Patience(
        settings.give_up_after_s, on_waiting=lambda error: view.say(f"waiting: {error.cause}")
    )
    pause, shown = _FIRST_LOOK_S, ""
    path = f"/cohorts/{status['cohort']}"
    while status["state"] not in _OVER:
        if status["state"] != shown:
            shown = status["state"]
            view.say(f"the hub: {shown}")
        patience.pause(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK_S)
        status = patience.ask(lambda: client.call("GET", path)).json()
        patience.progress()
    return status


def _keep_summary(box: Outbox, summary: dict[str, Any] | None) -> Path | None:
    """What the hub signed, as it was signed."""
    if summary is None:
        return None
    path = box.path.with_suffix(".summary.dsse.json")
    atomic_write_bytes(path, canonical_json(summary))
    return path
