"""Where a site keeps what belongs to federation: ``federation/`` in its home.

::

    approved.json      hashes of app bundles that the operator approved
    node.key, .pub     the key by which the SuperLink knows this site's node
    hub.crt            the hub's certificate, for Flower
    rounds/ID/         the work and the answers of a round
    flower/            Flower's own files
    bin/               the program that Flower starts for each message
    agent.json         the state of the agent
    agent.log          what it did, and what went wrong: it never leaves the site
    working.json       there while a round is worked on
    stop               there while the agent is asked to stop
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from site_agent.home import SiteHome


@dataclass(frozen=True)
class Places:
    """The paths below a site's ``federation/``."""

    home: SiteHome

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.home.folder / "federation"

    @property
    def approved(self) -> Path:
        """Hashes of app bundles."""
        return self.folder / "approved.json"

    @property
    def node_key(self) -> Path:
        """The private key of the node (OpenSSH, P-384)."""
        return self.folder / "node.key"

    @property
    def hub_certificate(self) -> Path:
        """What Flower trusts."""
        return self.folder / "hub.crt"

    @property
    def flower(self) -> Path:
        """``FLWR_HOME`` of this site."""
        return self.folder / "flower"

    @property
    def programs(self) -> Path:
        """First on the node's PATH."""
        return self.folder / "bin"

    @property
    def agent_state(self) -> Path:
        """What `pixcell-site status` shows."""
        return self.folder / "agent.json"

    @property
    def agent_lock(self) -> Path:
        """Held by the agent."""
        return self.folder / "agent.lock"

    @property
    def working(self) -> Path:
        """There while a round is worked on; says which."""
        return self.folder / "working.json"

    @property
    def log(self) -> Path:
        """The agent's log."""
        return self.folder / "agent.log"

    @property
    def stop_file(self) -> Path:
        """Asks the work to stop between tiles."""
        return self.folder / "stop"

    def round(self, number: str) -> Path:
        """The folder of a round."""
        return self.folder / "rounds" / number
