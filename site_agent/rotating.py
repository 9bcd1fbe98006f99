"""Change the site's key: the old one signs the new one, and the hub replaces it.

The new key is on the disk before the hub hears of it, and takes the place of the old one after the
hub has said yes; a run that was cut off in between is gone on with. The first key of a site stays
as ``ledger.key``: the ledger is signed with it, and hides patients with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import MembershipError
from pixcell_share.wire import Refusal
from pixcell_share.wire.rotation import Rotation
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink
from site_agent.patience import Patience


@dataclass(frozen=True)
class RotationOutcome:
    """The keys of a site after a change."""

    hub: str
    old_key_id: str
    key_id: str
    """The fingerprint of the new key."""


def rotate_key(home: SiteHome, *, give_up_after_s: float | None = None) -> RotationOutcome:
    """Replace the site's key at the hub and here.

    Bundles that the old key signed and that the hub has not accepted yet must be made again: send
    what is ready before the key is changed.

    Args:
        home: the site's.
        give_up_after_s: give up after so many seconds without an answer; None: never.

    Raises:
        SettingsError: the site has joined no hub.
        MembershipError: the hub does not take the old key any more.
        HubUnreachableError: nothing answers.
    """
    link, old = HubLink.load(home), home.load_key()
    new = home.next_key()
    rotation = Rotation.sign(old, new, link.hub_key_id)
    patience = Patience(give_up_after_s)
    if not _is_active(link, home, new, patience):
        with HubClient(link, old, lambda renewed: renewed.save(home)) as client:
            patience.ask(lambda: client.call("POST", "/keys", vars(rotation)))
    home.take_over()
    return RotationOutcome(link.hub, old.key_id, new.key_id)


def _is_active(link: HubLink, home: SiteHome, new: SiteKey, patience: Patience) -> bool:
    """Whether the hub has the new key already: its answer to an earlier run may have been lost."""
    with HubClient(link, new, lambda renewed: renewed.save(home)) as client:
        try:
            patience.ask(lambda: client.call("GET", f"/join/{new.key_id}"))
        except MembershipError as error:
            if error.reason != Refusal.UNKNOWN_KEY:
                raise
            return False
    return True
