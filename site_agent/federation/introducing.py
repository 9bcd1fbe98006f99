"""Tell the hub the key of this site's node, by a request that the site's own key signs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from pixcell_share.errors import HubError, MembershipError
from pixcell_share.files import atomic_write_text
from pixcell_share.wire import Refusal
from site_agent.federation.node_key import ensure_node_key
from site_agent.federation.places import Places
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink

_SLOW_S, _FAST_S = 300.0, 5.0
"""How far a node's clock may be behind and before the SuperLink's (flwr 1.42, `common/constant.py`:
``TIMESTAMP_TOLERANCE``, ``SYSTEM_TIME_TOLERANCE``), which refuses it without saying why."""
_COARSE_S = 2.0
"""A hub's ``Date`` is in whole seconds, and may be a second old."""


@dataclass(frozen=True)
class Introduction:
    """What a SuperNode has to know."""

    hub: str
    address: str
    """Host and port of the hub's front."""
    certificate: str
    """That the hub's key vouches for; empty where an authority does."""


def introduce(home: SiteHome) -> Introduction:
    """Give the hub the node's public key; a renewed certificate of the hub is taken on the way.

    Raises:
        SettingsError: the site has joined no hub.
        HubUnreachableError: nothing answers.
        HubTrustError: another certificate is shown than the hub's key vouches for.
        MembershipError: the hub does not take the site's key, or clocks are too far apart.
    """
    places, link = Places(home), HubLink.load(home)
    public = ensure_node_key(places.node_key)
    with HubClient(link, home.load_key(), lambda renewed: renewed.save(home)) as client:
        try:
            answer = client.call("POST", "/federation/node", {"public_key": public})
        except HubError as error:
            if error.reason != Refusal.CONFLICT:
                raise
            places.node_key.unlink()  # the SuperLink takes no key that was out once
            public = ensure_node_key(places.node_key)
            answer = client.call("POST", "/federation/node", {"public_key": public})
    _compare_clocks(answer)
    link = HubLink.load(home)
    if link.certificate:
        atomic_write_text(places.hub_certificate, link.certificate)
    parts = urlsplit(link.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Introduction(link.hub, f"{host}:{parts.port or 443}", link.certificate)


def _compare_clocks(answer: httpx.Response) -> None:
    told = answer.headers.get("date")
    if told is None:
        return
    before = time.time() - parsedate_to_datetime(told).timestamp()
    if before > _FAST_S + _COARSE_S or before < -_SLOW_S:
        side = "before" if before > 0 else "behind"
        raise MembershipError(
            f"this machine's clock is {abs(before):.0f} s {side} the hub's",
            "set both by a time server (NTP)",
            Refusal.CLOCK,
        )
