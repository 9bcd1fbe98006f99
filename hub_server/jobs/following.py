"""Run a job in the foreground, or watch the one that the served hub runs."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hub_server.home import HubHome
from hub_server.jobs.hub import Hub
from hub_server.jobs.runner import is_served
from hub_server.jobs.worker import work_on
from hub_server.registry import Job, JobKind, JobState, jobs
from pixcell_share.errors import StateError
from pixcell_share.progress import View

_LOOK_EVERY_S = 1.0
_OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


def finish_job(home: HubHome, job_id: str, view: View, actor: str) -> Job:
    """See a job to its end: here, or watching the served hub, where one is served or Slurm is set.

    Args:
        home: the hub's.
        job_id: a job that waits or runs.
        view: shows the progress.
        actor: who acts, as the log names it.

    Returns:
        The job, which is done.

    Raises:
        StateError: it failed or was cancelled, or it was stopped here and waits again.
        PixcellError: what it failed of, if it ran here.
    """
    with Hub.opened(home, actor) as hub:
        if not is_served(home) and hub.config.jobs.executor == "local":
            with _gently():
                work_on(home, job_id, f"cli-{os.getpid()}-{secrets.token_hex(4)}", view, actor)
        else:
            _watch(hub, job_id, view)
        job = _look(hub, job_id)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise StateError(f"the job {job.id[:8]} {_ended(job)}", "see the job's folder")
    if job.state is not JobState.DONE:
        raise StateError(
            f"the job {job.id[:8]} is {job.state}",
            f"`pixcell-hub jobs {job.id} --run` goes on; `pixcell-hub serve` does too",
        )
    return job


def _watch(hub: Hub, job_id: str, view: View) -> None:
    """Show the progress of a job until it is over."""
    job = _look(hub, job_id)
    view.say(f"job {job.id} is {job.state}: the served hub runs it; Ctrl-C leaves it running")
    steps = int(job.progress.get("steps", 0))
    with view.stage(
        "train" if job.kind is JobKind.TRAIN else "evaluate", steps, "steps"
    ) as advance:
        shown = 0
        while job.state not in _OVER:
            time.sleep(_LOOK_EVERY_S)
            job = _look(hub, job_id)
            step = int(job.progress.get("step", 0))
            if step > shown:
                advance(step - shown)
                shown = step


def _look(hub: Hub, job_id: str) -> Job:
    with hub.registry.reading() as session:
        return jobs.find_job(session, job_id)


def _ended(job: Job) -> str:
    return f"failed: {job.error}" if job.state is JobState.FAILED else "was cancelled"


@contextmanager
def _gently() -> Iterator[None]:
    """The first Ctrl-C asks to stop: a training saves first. The second ends at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
