"""One job from its lease to its end, in this process.

The main thread of a process must run it: it listens for SIGTERM, which ends the work early and
leaves the job in the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hub_server.home import HubHome
from hub_server.jobs.curves import progress_of
from hub_server.jobs.evaluating import run_evaluation
from hub_server.jobs.heartbeat import Heartbeat
from hub_server.jobs.hub import KINDS, Hub
from hub_server.jobs.training import run_training
from hub_server.registry import Job, JobKind, JobState, jobs
from pixcell_share.errors import DatabaseError, PixcellError, StateError
from pixcell_share.progress import View
from pixcell_share.training.stopping import StopRequest

_UNEXPECTED = "the job failed; the fault is in the log of its worker"
_logger = logging.getLogger(__name__)


class StoppedError(Exception):
    """The work is to end; the job goes back to the queue."""


def work_on(home: HubHome, job_id: str, owner: str, view: View, actor: str = "hub") -> JobState:
    """Do a job if it waits.

    Args:
        home: the hub's.
        job_id: which.
        owner: names this worker, uniquely.
        view: shows the progress.
        actor: who acts, as the log names it.

    Returns:
        Its state afterwards: ``queued`` where it was stopped, ``running`` where others have it.

    Raises:
        NotFoundError: there is no such job.
        PixcellError: the job failed; the registry says so too.
    """
    with Hub.opened(home, actor) as hub:
        with hub.registry.session() as session:
            jobs.find_job(session, job_id)
            job = jobs.claim(session, owner, KINDS, hub.config.jobs.lease, job_id=job_id)
        if job is not None:
            _Work(hub, job, owner, view).run()
        with hub.registry.reading() as session:
            return jobs.find_job(session, job_id).state


class _Work:
    """A job that is this worker's."""

    def __init__(self, hub: Hub, job: Job, owner: str, view: View) -> None:
        self._hub, self._job, self._owner, self._view = hub, job, owner, view
        self._heart = Heartbeat(hub, job, owner, self._progress)
        self._stop = StopRequest()

    def run(self) -> None:
        """To its end: done, failed, or back in the queue, also where the database went away within
        a unit of work. What is lost is left as it is."""
        try:
            with self._stop, self._heart.beating():
                self._do()
        except (StoppedError, KeyboardInterrupt) as stopped:
            self._release()
            if isinstance(stopped, KeyboardInterrupt):
                raise
        except DatabaseError as error:
            self._fail(error.cause, retry=True)  # what was computed is on the disk
            raise
        except PixcellError as error:
            if self._fail(error.cause):
                raise
        except Exception:
            _logger.exception("job %s", self._job.id[:8])
            self._fail(_UNEXPECTED)
            raise

    def _do(self) -> None:
        if self._job.kind is JobKind.TRAIN:
            if not run_training(self._hub, self._job, self._owner, self._view):
                raise StoppedError
        else:
            run_evaluation(self._hub, self._job, self._owner, self._view, self._check)

    def _check(self) -> None:
        if self._stop.asked or self._heart.lost.is_set():
            raise StoppedError

    def _progress(self) -> Mapping[str, Any]:
        return progress_of(self._hub.folder_of(self._job), self._job.progress)

    def _release(self) -> None:
        with suppress(StateError), self._hub.registry.session() as session:
            jobs.release(session, self._job.id, self._owner)

    def _fail(self, cause: str, *, retry: bool = False) -> bool:
        """Whether the job was this worker's to fail: of one that was lost the error is no news."""
        lease = self._hub.config.jobs.lease
        with suppress(StateError), self._hub.registry.session() as session:
            jobs.fail(session, self._job.id, self._owner, cause, retry=retry, lease=lease)
            return True
        return False
