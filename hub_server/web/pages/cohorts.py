"""Cohorts: the list, one of them, its tiles and its summary, and withdrawing it."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from hub_server.acts import Acts
from hub_server.intake import Reason
from hub_server.registry import Cohort, CohortState, cohorts, lineage, sites
from hub_server.web.audit_view import audit_view
from hub_server.web.cohort_view import cohort_view
from hub_server.web.history import history_of
from hub_server.web.notes import Note
from hub_server.web.pages._forms import Words, submit
from hub_server.web.pages._paging import pages_of
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Anybody, Choice, Operator, reads_all
from hub_server.web.sessions import Person
from hub_server.web.sheets import sheet
from hub_server.web.state import hub_of
from pixcell_share.errors import NotFoundError

router = APIRouter(prefix="/cohorts", include_in_schema=False)
Digest = Annotated[str, Path(max_length=64)]
_OVER = (CohortState.REJECTED, CohortState.WITHDRAWN)
_SUMMARY = "application/vnd.in-toto+json"


@router.get("")
def listed(
    request: Request,
    person: Anybody,
    site: Choice = "",
    state: Choice = "",
    tissue: Choice = "",
    terms: Choice = "",
    part: int = 1,
) -> Response:
    """All cohorts that somebody may see, by site, state, class and licence."""
    with hub_of(request).registry.reading() as session:
        seen = _visible(session, person)
        shown = [
            cohort
            for cohort in seen
            if site in ("", cohort.site.name)
            and state in ("", cohort.state)
            and (not tissue or tissue in (cohort.counts or {}))
            and _has_terms(cohort, terms)
        ]
    return page(
        request,
        person,
        "cohorts.html",
        part=pages_of(shown, part, request),
        chosen={"site": site, "state": state, "tissue": tissue, "terms": terms},
        sites=sorted({cohort.site.name for cohort in seen}),
        states=[state.value for state in CohortState] if reads_all(person) else [],
        class_names=sorted({name for cohort in seen for name in cohort.counts or {}}),
        licence_names=sorted({name for cohort in seen for name in cohort.licences or []}),
        total=len(seen),
    )


@router.get("/{digest}")
def one(request: Request, person: Anybody, digest: Digest) -> Response:
    """All about a cohort."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        cohort = _found(session, person, digest)
        encoders = lineage.trained_on(session, cohort.id)
        direct = {e.id for e in encoders for s in e.sources if s.cohort_id == cohort.id}
    reason = Reason(cohort.reason) if cohort.reason in list(Reason) else None
    return page(
        request,
        person,
        "cohort.html",
        cohort=cohort,
        view=cohort_view(cohort),
        audit=audit_view(cohort.audit) if cohort.audit else None,
        reason=reason,
        encoders=encoders,
        direct=direct,
        history=history_of(hub.log, cohort) if reads_all(person) else [],
        may_withdraw=cohort.state not in _OVER,
    )


@router.get("/{digest}/tiles/{label}.png")
def tiles(request: Request, person: Anybody, digest: Digest, label: int) -> Response:
    """Some tiles of one class, as one picture."""
    hub = hub_of(request)
    with hub.registry.reading() as session:
        cohort = _found(session, person, digest)
    content = sheet(hub.registry, hub.storage, cohort, label)
    return Response(
        content, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"}
    )


@router.get("/{digest}/summary.json")
def summary(request: Request, person: Anybody, digest: Digest) -> Response:
    """What the hub signed about a cohort, as a file."""
    with hub_of(request).registry.reading() as session:
        cohort = _found(session, person, digest)
    if cohort.summary is None:
        raise NotFoundError("the hub has signed nothing about this cohort", "see its state")
    content = json.dumps(cohort.summary, indent=2, ensure_ascii=False) + "\n"
    name = f"{cohort.id[:16]}.summary.dsse.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=_SUMMARY, headers=headers)


@router.post("/{digest}/withdraw")
async def withdraw(request: Request, person: Operator, digest: Digest, reason: Words) -> Response:
    """Withdraw a cohort: its tiles are deleted."""

    def work(acts: Acts) -> Note:
        done = acts.withdraw(digest, reason)
        trained = len(done.encoders)
        return Note(
            "The cohort is withdrawn, and its tiles are deleted.",
            f"Trained on it: {trained} encoder{'' if trained == 1 else 's'}, listed below."
            if trained
            else "No encoder was trained on it.",
        )

    back = f"/cohorts/{digest}"
    return await submit(request, person, work, back, form="withdraw", values={"reason": reason})


def _visible(session: Session, person: Person) -> list[Cohort]:
    """With their sites, the latest first."""
    states = tuple(CohortState) if reads_all(person) else (CohortState.ACCEPTED,)
    found = cohorts.list_cohorts(session, states)
    sites.list_sites(session)  # one query, instead of one for each cohort
    for cohort in found:
        _ = cohort.site
    return found


def _found(session: Session, person: Person, digest: str) -> Cohort:
    """The cohort with its site; one that somebody may not see is not there."""
    cohort = cohorts.find_cohort(session, digest)
    if not reads_all(person) and cohort.state is not CohortState.ACCEPTED:
        raise NotFoundError(f"there is no cohort {digest[:16]}", "see the list of cohorts")
    _ = cohort.site
    return cohort


def _has_terms(cohort: Cohort, terms: str) -> bool:
    if terms == "commercial":
        return cohort.licences is not None and not cohort.noncommercial
    return not terms or terms in (cohort.licences or [])
