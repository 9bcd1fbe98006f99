"""Where workers run: processes of this machine, or tasks of Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from hub_server.home import HubHome

_PATIENCE_S = 30.0


class Launcher(Protocol):
    """Starts workers for jobs."""

    @property
    def room(self) -> int | None:
        """Jobs at once; None: the launcher has a queue of its own."""

    def launch(self, job_id: str, folder: Path) -> None:
        """Start a worker for a job, whose files are in ``folder``."""

    def pending(self, job_id: str, folder: Path) -> bool:
        """Whether a worker was started for the job and has not ended."""

    def cancel(self, job_id: str, folder: Path) -> None:
        """End the worker of a job, if there is one."""

    def close(self) -> None:
        """The hub stops: leave jobs so that they go on later."""


class LocalLauncher:
    """A process for each job. It outlives a hub that is killed, and ends with one that is stopped.

    Args:
        home: the hub's.
        room: jobs at once.
    """

    def __init__(self, home: HubHome, room: int) -> None:
        self.room = room
        self._home = home.folder.absolute()
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, job_id: str, folder: Path) -> None:
        """See `Launcher`; what the worker says is appended to ``worker.log``."""
        command = [sys.executable, "-m", "hub_server.jobs", str(self._home), job_id]
        with (folder / "worker.log").open("ab") as log:
            self._workers[job_id] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the hub's terminal is for the hub
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def pending(self, job_id: str, folder: Path) -> bool:
        """See `Launcher`."""
        worker = self._workers.get(job_id)
        if worker is None or worker.poll() is None:
            return worker is not None
        del self._workers[job_id]
        return False

    def cancel(self, job_id: str, folder: Path) -> None:
        """See `Launcher`."""
        if self.pending(job_id, folder):
            self._workers[job_id].terminate()

    def close(self) -> None:
        """Ask all workers to stop: trainings save, and their jobs go back to the queue."""
        for worker in self._workers.values():
            worker.terminate()
        for worker in self._workers.values():
            try:
                worker.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                worker.kill()  # its lease runs out, and the next one goes on from the checkpoint
                worker.wait()
