"""Log people in, slowly where somebody guesses."""

from __future__ import annotations

from anyio import to_thread
from fastapi import Request

from hub_server.registry import accounts
from hub_server.registry.accounts import LoggedIn
from hub_server.web.state import address_of, hub_of
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal


async def log_in(request: Request, name: str, password: str) -> LoggedIn:
    """A new session for the right name and password.

    Raises:
        HubError: they are wrong, or were too often, for this account or from this address.
    """
    hub, address = hub_of(request), address_of(request)
    keys = (f"address {address}", f"account {name} {address}")
    for key, throttle in zip(keys, (hub.logins_by_address, hub.logins), strict=True):
        throttle.check(key)
    found = await to_thread.run_sync(
        accounts.log_in, hub.registry, name, password, hub.config.accounts, limiter=hub.hashers
    )
    if found is None:
        for key, throttle in zip(keys, (hub.logins_by_address, hub.logins), strict=True):
            throttle.count(key)
        raise HubError(
            "the name or the password is wrong",
            "try again, or ask the hub's operator for a new password",
            Refusal.LOGIN,
        )
    hub.logins.forget(keys[1])
    return found
