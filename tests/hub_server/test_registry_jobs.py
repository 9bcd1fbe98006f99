"""The queue of jobs: one worker each, and none is lost with its worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta

import pytest

from hub_server.registry import Job, JobKind, JobState, Registry, jobs
from hub_server.registry.jobs import LeaseSettings
from pixcell_share.errors import NotFoundError, StateError

OVER = LeaseSettings(seconds=-1.0)
"""A lease that ran out when it began."""


def enqueue(registry: Registry, count: int = 1, kind: JobKind = JobKind.TRAIN) -> list[str]:
    with registry.session() as session:
        return [jobs.enqueue(session, kind, {"number": n}).id for n in range(count)]


def claim(registry: Registry, owner: str = "w", **words: object) -> Job | None:
    with registry.session() as session:
        return jobs.claim(session, owner, **words)


def look(registry: Registry, job_id: str) -> Job:
    with registry.reading() as session:
        return jobs.find_job(session, job_id)


def test_a_job_from_the_queue_to_its_end(registry: Registry) -> None:
    (job_id,) = enqueue(registry)
    job = claim(registry, "w1")
    assert job is not None
    assert (job.id, job.state, job.attempts, job.settings) == (
        job_id,
        JobState.RUNNING,
        1,
        {"number": 0},
    )
    assert claim(registry, "w2") is None
    with registry.session() as session:
        jobs.heartbeat(session, job_id, "w1", {"step": 10})
    assert look(registry, job_id).progress == {"step": 10}
    with registry.session() as session:
        jobs.heartbeat(session, job_id, "w1")
        jobs.finish(session, job_id, "w1", {"step": 20})
    done = look(registry, job_id)
    assert (done.state, done.progress, done.lease_owner) == (JobState.DONE, {"step": 20}, None)
    assert done.started_at is not None
    assert done.ended_at is not None
    assert done.created_at <= done.started_at <= done.ended_at


def test_the_oldest_comes_first_and_only_of_ones_kind(registry: Registry) -> None:
    first = enqueue(registry, 3)
    (other,) = enqueue(registry, kind=JobKind.EVALUATE)
    claimed = [claim(registry, f"w{n}", kinds=[JobKind.TRAIN]) for n in range(4)]
    assert [job and job.id for job in claimed] == [*first, None]
    last = claim(registry)
    assert last is not None
    assert last.id == other


def test_a_heartbeat_lengthens_the_lease(registry: Registry) -> None:
    (job_id,) = enqueue(registry)
    claim(registry, lease=LeaseSettings(seconds=10))
    before = look(registry, job_id).lease_until
    with registry.session() as session:
        jobs.heartbeat(session, job_id, "w", lease=LeaseSettings(seconds=1000))
    after = look(registry, job_id).lease_until
    assert before is not None
    assert after is not None
    assert after - before > timedelta(seconds=900)
    assert claim(registry) is None


def test_a_silent_workers_job_goes_to_another_and_the_first_is_told(registry: Registry) -> None:
    (job_id,) = enqueue(registry)
    claim(registry, "slow", lease=OVER)
    again = claim(registry, "quick")
    assert again is not None
    assert (again.id, again.attempts, again.lease_owner) == (job_id, 2, "quick")
    for act in (jobs.heartbeat, jobs.finish):
        with pytest.raises(StateError, match="not this worker's"), registry.session() as session:
            act(session, job_id, "slow")
    with pytest.raises(StateError), registry.session() as session:
        jobs.fail(session, job_id, "slow", "x")
    assert look(registry, job_id).lease_owner == "quick"


def test_a_job_that_kills_its_workers_is_given_up(registry: Registry) -> None:
    (job_id,) = enqueue(registry)
    twice = LeaseSettings(seconds=-1.0, attempts=2)
    assert claim(registry, lease=twice) is not None
    assert claim(registry, lease=twice) is not None
    assert claim(registry, lease=twice) is None
    job = look(registry, job_id)
    assert (job.state, job.error) == (JobState.FAILED, "its worker fell silent 2 times")


def test_a_failure_is_kept_or_tried_again(registry: Registry) -> None:
    kept, again = enqueue(registry, 2)
    lease = LeaseSettings(attempts=2)
    for job_id, retry, expected in (
        (kept, False, JobState.FAILED),
        (again, True, JobState.QUEUED),
        (again, True, JobState.FAILED),
    ):
        job = claim(registry, lease=lease)
        assert job is not None
        assert job.id == job_id
        with registry.session() as session:
            jobs.fail(session, job_id, "w", "out of memory", retry=retry, lease=lease)
        assert (look(registry, job_id).state, look(registry, job_id).error) == (
            expected,
            "out of memory",
        )
    assert claim(registry) is None


def test_cancelling_takes_the_job_from_its_worker(registry: Registry) -> None:
    waiting, running = enqueue(registry, 2)
    with registry.session() as session:
        jobs.cancel(session, waiting)
    job = claim(registry)
    assert job is not None
    assert job.id == running
    with registry.session() as session:
        jobs.cancel(session, running)
    with pytest.raises(StateError, match="cancelled"), registry.session() as session:
        jobs.heartbeat(session, running, "w")
    with pytest.raises(StateError, match="cancelled"), registry.session() as session:
        jobs.cancel(session, running)
    assert claim(registry) is None


def test_jobs_are_listed_the_latest_first(registry: Registry) -> None:
    ids = enqueue(registry, 3)
    claim(registry)
    with registry.reading() as session:
        assert [job.id for job in jobs.list_jobs(session)] == ids[::-1]
        assert [job.id for job in jobs.list_jobs(session, limit=1)] == ids[-1:]
        assert [job.id for job in jobs.list_jobs(session, [JobState.RUNNING])] == ids[:1]
        assert jobs.list_jobs(session, kinds=[JobKind.INTAKE]) == []


def test_an_unknown_job_is_named(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="nothing"), registry.session() as session:
        jobs.cancel(session, "nothing")


def test_workers_at_once_never_share_a_job(registry: Registry) -> None:
    ids = enqueue(registry, 24)
    ready = threading.Barrier(4)
    claimed: list[str] = []

    def work(owner: str) -> None:
        ready.wait(30)
        while job := claim(registry, owner):
            claimed.append(job.id)
            with registry.session() as session:
                jobs.finish(session, job.id, owner)

    workers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert Counter(claimed) == Counter(ids)


def test_silent_jobs_are_put_back_once_by_workers_at_once(registry: Registry) -> None:
    ids = enqueue(registry, 6)
    for n in range(6):
        with registry.session() as session:
            claimed = jobs.claim(session, f"dead{n}", lease=LeaseSettings(seconds=1000))
            assert claimed is not None
    with registry.session() as session:
        for job_id in ids:
            jobs.heartbeat(session, job_id, f"dead{ids.index(job_id)}", lease=OVER)
    ready = threading.Barrier(3)
    put_back: list[str] = []

    def sweep() -> None:
        ready.wait(30)
        with registry.session() as session:
            put_back.extend(job.id for job in jobs.requeue_expired(session))

    workers = [threading.Thread(target=sweep) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert Counter(put_back) == Counter(ids)
    assert {look(registry, job_id).attempts for job_id in ids} == {1}


_WORKER = """
import signal, sys
from hub_server.registry import Registry, jobs
from hub_server.registry.jobs import LeaseSettings
registry = Registry(sys.argv[1])
with registry.session() as session:
    job = jobs.claim(session, "killed", lease=LeaseSettings(seconds=-1.0))
with registry.session() as session:
    jobs.heartbeat(session, job.id, "killed", {"step": 1}, LeaseSettings(seconds=-1.0))
with registry.session() as session:
    jobs.heartbeat(session, job.id, "killed", {"step": "half written"})
    session.flush()
    print("working", flush=True)
    signal.pause()
"""


def test_a_killed_workers_job_goes_on(registry: Registry) -> None:
    """`kill -9` within a unit of work: nothing of it is kept, and nothing stays locked."""
    (job_id,) = enqueue(registry)
    url = registry.url.render_as_string(hide_password=False)
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, url], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"working\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    again = claim(registry, "next")
    assert again is not None
    assert (again.id, again.attempts, again.progress) == (job_id, 2, {"step": 1})
