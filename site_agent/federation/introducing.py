"""Tell the hub the key of this site's node, by a request that the site's own key signs."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pixcell_share.errors import HubError
from pixcell_share.files import atomic_write_text
from pixcell_share.wire import Refusal
from site_agent.federation.node_key import ensure_node_key
from site_agent.federation.places import Places
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink


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
        MembershipError: the hub does not take the site's key.
    """
    places, link = Places(home), HubLink.load(home)
    public = ensure_node_key(places.node_key)
    with HubClient(link, home.load_key(), lambda renewed: renewed.save(home)) as client:
        try:
            client.call("POST", "/federation/node", {"public_key": public})
        except HubError as error:
            if error.reason != Refusal.CONFLICT:
                raise
            places.node_key.unlink()  # the SuperLink takes no key that was out once
            public = ensure_node_key(places.node_key)
            client.call("POST", "/federation/node", {"public_key": public})
    link = HubLink.load(home)
    if link.certificate:
        atomic_write_text(places.hub_certificate, link.certificate)
    parts = urlsplit(link.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Introduction(link.hub, f"{host}:{parts.port or 443}", link.certificate)
