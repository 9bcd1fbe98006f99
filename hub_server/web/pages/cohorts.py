"""Cohorts: the list, one of them, its tiles and its summary, and withdrawing it."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from hub_server.acts import Acts
from hub_server.intake import Reason
from hub_server.log import history
from hub_server.registry import Cohort, CohortState, cohorts, lineage
from hub_server.registry.cohorts import Outline
from hub_server.web.audit_view import audit_view
from hub_server.web.cohort_view import cohort_view
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
    seen_states = tuple(CohortState) if reads_all(person) else (CohortState.ACCEPTED,)
    with hub_of(request).registry.reading() as session:
        seen = cohorts.outlines(session, seen_states)
        fitting = [
            each.id
            for each in seen
            if site in ("", each.site)
            and state in ("", each.state)
            and (not tissue or tissue in each.classes)
            and _has_terms(each, terms)
        ]
        shown = pages_of(fitting, part, request)
        rows = cohorts.cohorts_of(session, shown.items)
    return page(
        request,
        person,
        "cohorts.html",
        part=shown,
        rows=rows,
        chosen={"site": site, "state": state, "tissue": tissue, "terms": terms},
        sites=sorted({each.site for each in seen}),
        states=[state.value for state in CohortState] if reads_all(person) else [],
        class_names=sorted({name for each in seen for name in each.classes}),
        licence_names=sorted({name for each in seen for name in each.licences or []}),
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
        history=history(hub.log, cohort.id) if reads_all(person) else [],
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


def _found(session: Session, person: Person, digest: str) -> Cohort:
    """The cohort with its site; one that somebody may not see is not there."""
    cohort = cohorts.find_cohort(session, digest)
    if not reads_all(person) and cohort.state is not CohortState.ACCEPTED:
        raise NotFoundError(f"there is no cohort {digest[:16]}", "see the list of cohorts")
    _ = cohort.site
    return cohort


def _has_terms(each: Outline, terms: str) -> bool:
    if terms == "commercial":
        return each.licences is not None and not each.noncommercial
    return not terms or terms in (each.licences or [])
