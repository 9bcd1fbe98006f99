"""Jobs: the list, one of them with its curves, and cancelling it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub_server.acts import Acts
from hub_server.registry import Encoder, Evaluation, Job, JobKind, JobState, jobs
from hub_server.web.job_view import curves_of, progress_of
from hub_server.web.notes import Note
from hub_server.web.pages._forms import submit
from hub_server.web.pages._paging import pages_of
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody, Choice, Operator, reads_all
from hub_server.web.results import results_of
from hub_server.web.sessions import Person
from hub_server.web.state import hub_of
from pixcell_share.errors import NotFoundError

router = APIRouter(prefix="/jobs", include_in_schema=False)
Id = Annotated[str, Path(max_length=64)]
_MOST = 1000
_OPEN = (JobState.QUEUED, JobState.RUNNING)


def shown_kinds(person: Person) -> tuple[JobKind, ...]:
    """Intakes are of bundles that were not accepted yet, which not everybody sees."""
    return tuple(JobKind) if reads_all(person) else (JobKind.TRAIN, JobKind.EVALUATE)


@router.get("")
def listed(
    request: Request, person: Anybody, kind: Choice = "", state: Choice = "", part: int = 1
) -> Response:
    """Jobs, the latest first."""
    kinds = [each for each in shown_kinds(person) if kind in ("", each)]
    states = [each for each in JobState if state in ("", each)]
    with hub_of(request).registry.reading() as session:
        found = jobs.list_jobs(session, states, kinds, _MOST)
    return page(
        request,
        person,
        "jobs.html",
        part=pages_of(found, part, request),
        progress={job.id: progress_of(job) for job in found},
        kinds=[each.value for each in shown_kinds(person)],
        states=[each.value for each in JobState],
        chosen={"kind": kind, "state": state},
    )


@router.get("/{job_id}")
def one(request: Request, person: Anybody, job_id: Id) -> Response:
    """A job: how far it is, its curves, and what came of it."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        job = _found(session, person, job_id)
        made = session.scalar(select(Encoder).where(Encoder.job_id == job.id))
        measured = list(session.scalars(select(Evaluation).where(Evaluation.job_id == job.id)))
    return page(
        request,
        person,
        "job.html",
        job=job,
        progress=progress_of(job),
        curves=curves_of(hub.home, job),
        made=made,
        results=results_of(measured),
        is_open=job.state in _OPEN,
    )


@router.post("/{job_id}/cancel")
async def cancel(request: Request, person: Operator, job_id: Id) -> Response:
    """Stop a job."""

    def work(acts: Acts) -> Note:
        acts.cancel_job(job_id)
        return Note("The job is cancelled.", "Its worker hears of it within a minute.")

    return await submit(request, person, work, f"/jobs/{job_id}", form="cancel")


def _found(session: Session, person: Person, job_id: str) -> Job:
    job = jobs.find_job(session, job_id)
    if job.kind not in shown_kinds(person):
        raise NotFoundError(f"there is no job {job.id[:16]}", "see the list of jobs")
    return job
