"""A worker's sign of life, and how it hears that it is to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hub_server.jobs.hub import Hub
from hub_server.registry import Job, jobs
from pixcell_share.errors import DatabaseError, NotFoundError, StateError

_PARTS = 3
"""Heartbeats in a lease."""


class Heartbeat:
    """Extends a job's lease until its block ends.

    Attributes:
        lost: set when the job was cancelled, or is another worker's.
    """

    def __init__(
        self, hub: Hub, job: Job, owner: str, progress: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._hub, self._job, self._owner, self._progress = hub, job, owner, progress
        self._over = threading.Event()
        self.lost = threading.Event()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say every third of the lease that the work goes on.

        When the job is lost this process is sent SIGTERM: the worker listens for it, and a training
        saves and ends within a step.
        """
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _beat(self) -> None:
        lease = self._hub.config.jobs.lease
        while not self._over.wait(lease.seconds / _PARTS):
            try:
                with self._hub.registry.session() as session:
                    jobs.heartbeat(session, self._job.id, self._owner, self._progress(), lease)
            except DatabaseError:
                continue  # it may come back before the lease ends
            except (StateError, NotFoundError):
                self.lost.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return
