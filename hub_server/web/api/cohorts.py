"""What became of a bundle, for the site that sent it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from hub_server.web.access import FromSite
from hub_server.web.api.models import CohortStatus
from hub_server.web.cohorts import own_cohort
from hub_server.web.state import hub_of

router = APIRouter(tags=["cohorts"])
DigestPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/cohorts/{digest}")
def cohort(request: Request, digest: DigestPath, caller: FromSite) -> CohortStatus:
    """State, reason and the hub's signed summary of one of the site's own bundles."""
    return own_cohort(hub_of(request), caller, digest)
