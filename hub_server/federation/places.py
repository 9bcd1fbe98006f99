"""Where a hub keeps what belongs to federation: ``federation/`` in its home.

::

    rounds/ID/        round.json, and answers/ of the sites as they signed them
    superlink.db      Flower's state: nodes, runs, messages on their way
    superexec.secret  known to the hub's own executor alone
    superlink.address where it listens, while it runs
    nodes.json        the node key of each site
    tls/              authority and certificate of the SuperLink, for this machine only
    flower/           Flower's own files
    bin/              the programs that its executor starts
    superlink.log, superexec.log
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub_server.home import HubHome


@dataclass(frozen=True)
class Places:
    """The paths below a hub's ``federation/``."""

    home: HubHome

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.home.folder / "federation"

    @property
    def rounds(self) -> Path:
        """A folder for each round."""
        return self.folder / "rounds"

    @property
    def flower(self) -> Path:
        """``FLWR_HOME`` of this hub."""
        return self.folder / "flower"

    @property
    def programs(self) -> Path:
        """First on the PATH of its executor."""
        return self.folder / "bin"

    @property
    def database(self) -> Path:
        """Flower's state."""
        return self.folder / "superlink.db"

    @property
    def tls(self) -> Path:
        """Of the SuperLink; ``ca.crt`` is its authority."""
        return self.folder / "tls"

    @property
    def secret(self) -> Path:
        """Of the executor."""
        return self.folder / "superexec.secret"

    @property
    def address(self) -> Path:
        """Host and port of the SuperLink, while it runs."""
        return self.folder / "superlink.address"

    @property
    def nodes(self) -> Path:
        """The node key of each site, as the hub registered it."""
        return self.folder / "nodes.json"
