"""The queue of jobs, in the database: workers lease a job and must keep saying that they live.

::

    queued ── claim ──> running ── finish ──> done
      ^                    │ ├───── fail ───> failed
      └── release, ────────┘ └──── cancel ──> cancelled
          lease ran out

A worker that is killed stops its heartbeat; after the lease another one takes the job and goes on
where the files are. A late worker finds that the job is not its own any more (`StateError`).
Leases are compared with the clocks of the workers' machines: seconds apart do no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.registry.columns import utc_now
from hub_server.registry.states import JobKind, JobState
from hub_server.registry.tables import Job
from pixcell_share.errors import NotFoundError, StateError


@dataclass(frozen=True)
class LeaseSettings:
    """How long a silent worker is believed in, and how often a job is tried."""

    seconds: float = 60.0
    """A heartbeat every third of this is in good time."""
    attempts: int = 3
    """A job that was claimed so often and never ended is failed: it kills its workers."""

    @property
    def length(self) -> timedelta:
        """The lease as a span of time."""
        return timedelta(seconds=self.seconds)


def enqueue(
    session: Session, kind: JobKind, settings: Mapping[str, Any], folder: str | None = None
) -> Job:
    """Add a job at the end of the queue.

    Args:
        session: of the registry.
        kind: what it does.
        settings: all that it needs, as JSON.
        folder: where it keeps its files, below the hub's home.
    """
    job = Job(kind=kind, settings=dict(settings), folder=folder)
    session.add(job)
    session.flush()
    return job


def claim(
    session: Session,
    owner: str,
    kinds: Collection[JobKind] = tuple(JobKind),
    lease: LeaseSettings = LeaseSettings(),
    *,
    job_id: str | None = None,
) -> Job | None:
    """The oldest job that waits, or whose worker fell silent; now it is ``owner``'s.

    Args:
        session: of the registry, for writing; two workers never get the same job.
        owner: names the worker, uniquely.
        kinds: what it can do.
        lease: how long it may be silent.
        job_id: this job alone; None is returned where it does not wait.
    """
    requeue_expired(session, lease)
    waiting = (
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.kind.in_(kinds))
        .order_by(Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite has one writer at a time and needs none
    )
    if job_id is not None:
        waiting = waiting.where(Job.id == job_id)
    job = session.scalar(waiting)
    if job is None:
        return None
    now = utc_now()
    job.state, job.attempts, job.started_at = JobState.RUNNING, job.attempts + 1, now
    job.lease_owner, job.lease_until = owner, now + lease.length
    return job


def heartbeat(
    session: Session,
    job_id: str,
    owner: str,
    progress: Mapping[str, Any] | None = None,
    lease: LeaseSettings = LeaseSettings(),
) -> None:
    """Say that the work goes on.

    Args:
        session: of the registry.
        job_id: the job.
        owner: who claimed it.
        progress: what to show from now on; None leaves what is shown.
        lease: how long the next silence may be.

    Raises:
        NotFoundError: there is no such job.
        StateError: it was cancelled, or somebody else has it: stop.
    """
    job = _own(session, job_id, owner)
    job.lease_until = utc_now() + lease.length
    if progress is not None:
        job.progress = dict(progress)


def finish(
    session: Session, job_id: str, owner: str, progress: Mapping[str, Any] | None = None
) -> Job:
    """The work is done; see `heartbeat` for what is raised."""
    job = _own(session, job_id, owner)
    if progress is not None:
        job.progress = dict(progress)
    return _end(job, JobState.DONE)


def fail(
    session: Session,
    job_id: str,
    owner: str,
    error: str,
    *,
    retry: bool = False,
    lease: LeaseSettings = LeaseSettings(),
) -> Job:
    """The work failed; see `heartbeat` for what is raised.

    Args:
        session: of the registry.
        job_id: the job.
        owner: who claimed it.
        error: the cause, in plain words.
        retry: put it back into the queue, unless it was tried often enough.
        lease: how often that is.
    """
    job = _own(session, job_id, owner)
    job.error = error
    again = retry and job.attempts < lease.attempts
    return _wait_again(job) if again else _end(job, JobState.FAILED)


def release(session: Session, job_id: str, owner: str) -> Job:
    """The worker was asked to stop, and others may go on; see `heartbeat` for what is raised.

    The try does not count: a long training may be stopped any number of times.
    """
    job = _own(session, job_id, owner)
    job.attempts -= 1
    return _wait_again(job)


def cancel(session: Session, job_id: str) -> Job:
    """Stop a job; its worker hears of it at its next heartbeat.

    Raises:
        NotFoundError: there is no such job.
        StateError: it is over.
    """
    job = find_job(session, job_id, lock=True)
    if job.state not in (JobState.QUEUED, JobState.RUNNING):
        raise StateError(f"the job {job.id[:8]} is {job.state}", "nothing is left to cancel")
    return _end(job, JobState.CANCELLED)


def requeue_expired(session: Session, lease: LeaseSettings = LeaseSettings()) -> list[Job]:
    """Put jobs back whose worker fell silent; those tried too often are failed."""
    silent = (
        select(Job)
        .where(Job.state == JobState.RUNNING, Job.lease_until < utc_now())
        .with_for_update(skip_locked=True)
    )
    found = list(session.scalars(silent))
    for job in found:
        if job.attempts < lease.attempts:
            _wait_again(job)
        else:
            job.error = f"its worker fell silent {job.attempts} times"
            _end(job, JobState.FAILED)
    session.flush()
    return found


def find_job(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """The job.

    Raises:
        NotFoundError: there is none.
    """
    job = session.get(Job, job_id, with_for_update=lock)
    if job is None:
        raise NotFoundError(f"there is no job {ascii(job_id)[1:-1][:32]}", "see `pixcell-hub jobs`")
    return job


def list_jobs(
    session: Session,
    states: Collection[JobState] = tuple(JobState),
    kinds: Collection[JobKind] = tuple(JobKind),
    limit: int = 100,
) -> list[Job]:
    """Jobs, the latest first."""
    wanted = select(Job).where(Job.state.in_(states), Job.kind.in_(kinds))
    return list(session.scalars(wanted.order_by(Job.created_at.desc(), Job.id).limit(limit)))


def _own(session: Session, job_id: str, owner: str) -> Job:
    job = find_job(session, job_id, lock=True)
    if job.state is not JobState.RUNNING or job.lease_owner != owner:
        raise StateError(
            f"the job {job.id[:8]} is {job.state} and not this worker's", "stop working on it"
        )
    return job


def _end(job: Job, state: JobState) -> Job:
    job.state, job.ended_at = state, utc_now()
    job.lease_owner = job.lease_until = None
    return job


def _wait_again(job: Job) -> Job:
    job.state = JobState.QUEUED
    job.lease_owner = job.lease_until = None
    return job
