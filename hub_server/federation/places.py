"""Where a hub keeps what belongs to federation: ``federation/`` in its home.

::

    rounds/ID/        round.json, and answers/ of the sites as they signed them
    superlink.db      Flower's state: nodes, runs, messages on their way
    superexec.secret  known to the hub's own executor alone
    tls/              authority and certificate of the SuperLink, for this machine only
    flower/           Flower's own files
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
    def database(self) -> Path:
        """Flower's state."""
        return self.folder / "superlink.db"
