"""The first page: what waits for the one who looks, and what is new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from hub_server.registry import (
    Cohort,
    CohortState,
    Encoder,
    Job,
    JobKind,
    JobState,
    Site,
    SiteState,
    cohorts,
    jobs,
    sites,
)
from hub_server.registry.columns import utc_now
from hub_server.registry.leaderboard import leaderboard
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody, reads_all
from hub_server.web.pages.jobs import shown_kinds
from hub_server.web.state import hub_of

router = APIRouter(include_in_schema=False)
_RECENT = timedelta(days=30)
_FEW = 5
_IN_INTAKE = (CohortState.UPLOADED, CohortState.QUARANTINED, CohortState.VERIFIED)


@dataclass(frozen=True)
class Waiting:
    """What somebody may want to do something about."""

    sites: list[Site]
    """Whose keys wait to be compared."""
    cohorts: list[Cohort]
    """In the intake."""
    rejected: list[Cohort]
    """In the last weeks, the latest first."""
    failed: list[Job]
    """Likewise."""


@router.get("/")
def home(request: Request, person: Anybody) -> Response:
    """What waits, what runs, what is new."""
    hub = hub_of(request)
    kinds = shown_kinds(person)
    with hub.registry.reading() as session:
        board = leaderboard(session)
        return page(
            request,
            person,
            "home.html",
            waiting=_waiting(session) if reads_all(person) else None,
            running=jobs.list_jobs(session, (JobState.RUNNING, JobState.QUEUED), kinds),
            accepted=cohorts.list_cohorts(session, (CohortState.ACCEPTED,), limit=_FEW),
            totals=_totals(session),
            board=board,
            best=board.rows[:_FEW],
        )


def _waiting(session: Session) -> Waiting:
    since = utc_now() - _RECENT
    failed = jobs.list_jobs(session, (JobState.FAILED,), tuple(JobKind))
    return Waiting(
        sites=[s for s in sites.list_sites(session) if s.status is SiteState.PENDING],
        cohorts=cohorts.list_cohorts(session, _IN_INTAKE),
        rejected=cohorts.list_cohorts(session, (CohortState.REJECTED,), since=since),
        failed=[job for job in failed if job.ended_at is not None and job.ended_at >= since],
    )


def _totals(session: Session) -> dict[str, int]:
    """What the hub holds."""
    accepted = Cohort.state == CohortState.ACCEPTED

    def number(wanted: Select[Any]) -> int:
        return int(session.scalar(wanted) or 0)

    return {
        "sites": number(
            select(func.count()).select_from(Site).where(Site.status == SiteState.ACTIVE)
        ),
        "cohorts": number(select(func.count()).select_from(Cohort).where(accepted)),
        "tiles": number(select(func.sum(Cohort.tiles)).where(accepted)),
        "encoders": number(select(func.count()).select_from(Encoder)),
    }
