"""What the work on a round has at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.bundles import SiteKey
from pixcell_share.federation import Request
from pixcell_share.files import atomic_write_text
from site_agent.federation.places import Places
from site_agent.federation.policy import FederationPolicy
from site_agent.federation.watch import RoundView, may_go_on
from site_agent.home import SiteHome


@dataclass(frozen=True)
class Desk:
    """One request at one site."""

    home: SiteHome
    policy: FederationPolicy
    key: SiteKey
    request: Request

    @property
    def places(self) -> Places:
        """Where the site keeps what belongs to federation."""
        return Places(self.home)

    @property
    def folder(self) -> Path:
        """The round's own, kept between tries: work goes on where it was."""
        return self.places.round(self.request.round)

    @property
    def view(self) -> RoundView:
        """Stops the round between tiles when it has to."""
        return RoundView(may_go_on(self.policy, self.places.stop_file))


@contextmanager
def noted_as_working(desk: Desk) -> Iterator[None]:
    """Let the agent and `pixcell-site status` know, until the block ends."""
    note = {"round": desk.request.round, "kind": desk.request.kind.value}
    atomic_write_text(desk.places.working, json.dumps(note))
    try:
        yield
    finally:
        desk.places.working.unlink(missing_ok=True)
