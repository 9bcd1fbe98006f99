"""Withdrawals: tombstones, and what was trained on what is gone."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from hub_server.registry import cohorts
from hub_server.web.pages._render import page
from hub_server.web.pages._rules import Reader
from hub_server.web.state import hub_of

router = APIRouter(prefix="/withdrawals", include_in_schema=False)


@router.get("")
def listed(request: Request, person: Reader) -> Response:
    """All tombstones, the latest first."""
    with hub_of(request).registry.reading() as session:
        found = cohorts.withdrawals(session)
        direct = {
            (w.cohort.id, encoder.id)
            for w in found
            for encoder in w.encoders
            if any(source.cohort_id == w.cohort.id for source in encoder.sources)
        }
    return page(request, person, "withdrawals.html", withdrawals=found, direct=direct)
