"""Join a hub: give it the site's public key, and wait until its operator has admitted it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubError, SettingsError
from pixcell_share.progress import View
from pixcell_share.wire import Refusal
from pixcell_share.wire.fingerprints import readable
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink, meet
from site_agent.patience import Patience

_LOOK_EVERY_S = 3.0


@dataclass(frozen=True, kw_only=True)
class JoinSettings:
    """How to join."""

    code: str | None = None
    """Of the invitation; not needed where the hub has the key already."""
    wait: bool = True
    """Wait until the operator has admitted the site."""
    give_up_after_s: float | None = None
    """Give up after so many seconds without an answer; None: never."""


@dataclass(frozen=True)
class JoinOutcome:
    """Where the site stands."""

    hub: str
    url: str
    site: str
    key_id: str
    """The fingerprint of the site's key, for the operator to compare."""
    status: str
    """``pending`` or ``active``."""


def join(
    url: str, fingerprint: str, home: SiteHome, view: View, settings: JoinSettings
) -> JoinOutcome:
    """Join the hub at ``url``; run again, it goes on where it was.

    A site whose key was revoked, and that was invited again, gives a new key.

    Args:
        url: of the hub.
        fingerprint: of the hub's key, from the invitation.
        home: the site's; its key stays there.
        view: told what to do while one waits.
        settings: how.

    Raises:
        SettingsError: ``url`` is no address of a hub, or a code is needed.
        HubTrustError: it is another hub than the invitation's, or something stands between.
        HubUnreachableError: nothing answers.
        MembershipError: the code is not, or no longer, this site's.
    """
    site, link = home.config().site, meet(url, fingerprint)
    patience = Patience(
        settings.give_up_after_s, on_waiting=lambda error: view.say(f"waiting: {error.cause}")
    )
    key = home.load_key()
    if settings.code is not None and _is_revoked(link, home, key, patience):
        view.say("the hub has revoked this site's key: it gets a new one")
        key = home.next_key()
    with HubClient(link, key, lambda renewed: renewed.save(home)) as client:
        status = patience.ask(lambda: _give_key(client, key, site, settings.code))
        link.save(home)
        if key.key_id != home.load_key().key_id:
            home.take_over()
        if settings.wait and status["status"] == "pending":
            view.say(f"read this fingerprint to the operator of {link.hub}, by telephone:")
            view.say(f"  {readable(key.key_id)}")
            view.say("waiting to be admitted; Ctrl-C is safe, the same command goes on")
            status = _await_admission(client, key, patience)
    return JoinOutcome(link.hub, link.url, status["site"], key.key_id, status["status"])


def _is_revoked(link: HubLink, home: SiteHome, key: SiteKey, patience: Patience) -> bool:
    with HubClient(link, key, lambda renewed: renewed.save(home)) as client:
        try:
            patience.ask(lambda: _status(client, key))
        except HubError as error:
            return error.reason == Refusal.REVOKED
    return False


def _give_key(client: HubClient, key: SiteKey, site: str, code: str | None) -> dict[str, Any]:
    """Send the public key, unless the hub has it: an answer may have been lost."""
    try:
        return _status(client, key)
    except HubError as error:
        if error.reason != Refusal.UNKNOWN_KEY:
            raise
    if code is None:
        raise SettingsError("the hub does not know this site", "give --code of the invitation")
    document = {"code": code, "site": site, "public_key": key.public_pem.decode()}
    found: dict[str, Any] = client.call("POST", "/join", document).json()
    return found


def _await_admission(client: HubClient, key: SiteKey, patience: Patience) -> dict[str, Any]:
    while (status := patience.ask(lambda: _status(client, key)))["status"] == "pending":
        patience.progress()
        patience.pause(_LOOK_EVERY_S)
    return status


def _status(client: HubClient, key: SiteKey) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GET", f"/join/{key.key_id}").json()
    return found
