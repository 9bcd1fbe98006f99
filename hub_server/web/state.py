"""What every route of a running hub needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property

from anyio import CapacityLimiter
from fastapi import Request

from hub_server.acts import Acts
from hub_server.config import HubConfig
from hub_server.home import HubHome
from hub_server.log import HubLog
from hub_server.registry import Registry
from hub_server.storage import Storage
from hub_server.uploads import UploadStore
from hub_server.web.notes import Notes
from hub_server.web.replay import Nonces
from hub_server.web.throttle import Rate, Throttle
from pixcell_share.bundles import SiteKey


@dataclass(frozen=True)
class HubState:
    """A hub that is being served; one for each process."""

    home: HubHome
    config: HubConfig
    key: SiteKey
    registry: Registry
    uploads: UploadStore
    certificate_sha256: str
    """Of the certificate that is shown; empty where something before the hub has it."""
    nonces: Nonces = field(default_factory=Nonces)
    joins: Throttle = field(default_factory=lambda: Throttle(Rate(10, 600.0)))
    """Tries to join, by address."""
    logins: Throttle = field(default_factory=lambda: Throttle(Rate(10, 600.0)))
    """Failed logins, by account and address: nobody can lock another person out."""
    logins_by_address: Throttle = field(default_factory=lambda: Throttle(Rate(50, 600.0)))
    """Failed logins, by address."""
    writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    """Threads that write uploads and hash them, apart from those that answer pages."""
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    """Uploads that are read from the network at the same moment, see `receiving`."""
    hashers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    """Passwords that are checked at once: each takes argon2's memory."""
    notes: Notes = field(default_factory=Notes)
    """What the pages say once, after a form."""

    @cached_property
    def log(self) -> HubLog:
        """The log of acts."""
        return HubLog(self.home.log_folder, self.key)

    @cached_property
    def storage(self) -> Storage:
        """Where accepted cohorts and encoders are kept."""
        return self.home.storage(self.config)


def hub_of(request: Request) -> HubState:
    """The hub that a request came to."""
    state: HubState = request.app.state.hub
    return state


def address_of(request: Request) -> str:
    """Where a request came from, for throttles."""
    return request.client.host if request.client else ""


def acts_of(hub: HubState, actor: str) -> Acts:
    """What ``actor`` does to the hub, with its line in the log."""
    return Acts(hub.home, hub.registry, hub.config, hub.log, actor)
