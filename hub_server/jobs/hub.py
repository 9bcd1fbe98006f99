"""What a job works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub_server.config import HubConfig
from hub_server.home import HubHome
from hub_server.log import HubLog
from hub_server.registry import Job, JobKind, Registry
from hub_server.storage import Storage

KINDS = (JobKind.TRAIN, JobKind.EVALUATE)
"""Of jobs that workers do; intakes are done by the served hub itself."""


@dataclass(frozen=True)
class Hub:
    """A hub that is open."""

    home: HubHome
    config: HubConfig
    registry: Registry
    storage: Storage
    log: HubLog
    actor: str
    """Who acts, as the log names it."""

    @classmethod
    @contextmanager
    def opened(cls, home: HubHome, actor: str = "hub") -> Iterator[Hub]:
        """The hub in ``home``.

        Raises:
            SettingsError: hub.toml is wrong.
            KeyFileError: there is no hub.
        """
        config = home.config()
        log = home.log()
        registry = home.registry(config)
        try:
            yield cls(home, config, registry, home.storage(config), log, actor)
        finally:
            registry.close()

    def folder_of(self, job: Job) -> Path:
        """Where a job keeps its files."""
        return self.home.folder.absolute() / (job.folder or f"jobs/{job.id}")
