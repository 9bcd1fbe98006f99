"""The runner of a served hub: it gives queued trainings and evaluations to workers.

All it knows is in the registry, so it can be killed at any moment: a worker that lives goes on, and
one that died is noticed by its lease.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from types import TracebackType
from typing import IO

from hub_server.home import HubHome
from hub_server.jobs.hub import KINDS, Hub
from hub_server.jobs.launchers import Launcher, LocalLauncher
from hub_server.registry import Job, JobState, jobs
from pixcell_share.errors import PixcellError, StateError

_LOCK = "runner.lock"
_LOOK_EVERY_S = 1.0
_logger = logging.getLogger(__name__)


class JobRunner:
    """A thread that looks for jobs while a hub is served; one for each home.

    Args:
        home: the hub's.
        launcher: where workers run; by default as hub.toml says.
        every_s: how often to look.

    Raises:
        StateError: another process serves this hub; on entering.
    """

    def __init__(
        self, home: HubHome, launcher: Launcher | None = None, every_s: float = _LOOK_EVERY_S
    ) -> None:
        self._home, self._every_s = home, every_s
        self._launcher = launcher or launcher_of(home)
        self._launched: dict[str, Job] = {}
        self._stop = threading.Event()
        self._lock: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def __enter__(self) -> JobRunner:
        self._home.jobs.mkdir(parents=True, exist_ok=True)
        self._lock = (self._home.jobs / _LOCK).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"the hub in {self._home.folder} is served already", "end that `pixcell-hub serve`"
            ) from error
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._launcher.close()
        if self._lock is not None:
            self._lock.close()

    def _run(self) -> None:
        with Hub.opened(self._home) as hub:
            while not self._stop.wait(self._every_s):
                try:
                    self.look(hub)
                except PixcellError as error:
                    _logger.error("jobs: %s", error.cause)
                except Exception:
                    _logger.exception("jobs")

    def look(self, hub: Hub) -> None:
        """Start workers for jobs that wait, and end those of cancelled jobs."""
        with hub.registry.session() as session:
            jobs.requeue_expired(session, hub.config.jobs.lease)
        with hub.registry.reading() as session:
            waiting = jobs.list_jobs(session, (JobState.QUEUED,), KINDS)[::-1]
            running = {job.id for job in jobs.list_jobs(session, (JobState.RUNNING,), KINDS)}
            cancelled = jobs.list_jobs(session, (JobState.CANCELLED,), KINDS)
        for job in cancelled:
            if self._launched.pop(job.id, None):
                self._launcher.cancel(job.id, hub.folder_of(job))
        starting = [job for job in waiting if self._launcher.pending(job.id, hub.folder_of(job))]
        busy = len(running) + len(starting)
        for job in waiting:
            if job in starting or (self._launcher.room is not None and busy >= self._launcher.room):
                continue
            self._launch(hub, job)
            busy += 1

    def _launch(self, hub: Hub, job: Job) -> None:
        try:
            self._launcher.launch(job.id, hub.folder_of(job))
            self._launched[job.id] = job
        except PixcellError as error:
            with hub.registry.session() as session:
                if jobs.claim(session, "runner", job_id=job.id):
                    jobs.fail(session, job.id, "runner", error.cause)


def launcher_of(home: HubHome) -> Launcher:
    """The launcher that hub.toml names.

    Raises:
        SettingsError: hub.toml is wrong.
    """
    settings = home.config().jobs
    if settings.executor == "slurm":
        from hub_server.jobs.slurm import SlurmLauncher  # submitit is slow to import

        return SlurmLauncher(home, settings.slurm or {})
    return LocalLauncher(home, settings.workers)


def is_served(home: HubHome) -> bool:
    """Whether a `JobRunner` is at work on this machine."""
    try:
        with (home.jobs / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
