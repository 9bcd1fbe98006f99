"""From an upload to a cohort."""

from __future__ import annotations

from hub_server.registry import Cohort, CohortState, JobKind, Site, cohorts, jobs
from hub_server.uploads import Upload
from hub_server.web.api.models import CohortStatus
from hub_server.web.signed import Caller
from hub_server.web.state import HubState
from pixcell_share.errors import HubError, NotFoundError
from pixcell_share.wire import Refusal

IN_INTAKE = (CohortState.UPLOADED, CohortState.QUARANTINED, CohortState.VERIFIED)
"""The intake still reads the upload."""


def status_of(cohort: Cohort) -> CohortStatus:
    """What a cohort's site is told."""
    return CohortStatus(
        cohort=cohort.id,
        state=cohort.state.value,
        reason=cohort.reason,
        detail=cohort.detail,
        changed_at=cohort.changed_at,
        summary=cohort.summary,
    )


def begun_before(hub: HubState, caller: Caller, digest: str) -> CohortStatus | None:
    """What became of a bundle that the site sent before; none if it may be sent (again).

    Raises:
        HubError: another site sent it.
    """
    with hub.registry.reading() as session:
        cohort = session.get(Cohort, digest)
        if cohort is None or cohort.state is CohortState.REJECTED:
            return None
        if cohort.site_id != caller.site_id:
            raise HubError(
                "the hub has this bundle already", "send a bundle of your own", Refusal.CONFLICT
            )
        return status_of(cohort)


def own_cohort(hub: HubState, caller: Caller, digest: str) -> CohortStatus:
    """What became of a bundle of this site.

    Raises:
        NotFoundError: the site has sent no such bundle.
    """
    with hub.registry.reading() as session:
        cohort = session.get(Cohort, digest)
        if cohort is None or cohort.site_id != caller.site_id:
            raise NotFoundError("this site has sent no such bundle", "send it first")
        return status_of(cohort)


def stored_bytes(hub: HubState, caller: Caller) -> int:
    """What the site's cohorts take; those still in the intake count as uploads."""
    with hub.registry.reading() as session:
        site = session.get_one(Site, caller.site_id)
        return cohorts.stored_bytes(session, site, (CohortState.ACCEPTED,))


def finish_upload(hub: HubState, caller: Caller, upload: Upload) -> CohortStatus:
    """Make a cohort of a whole upload and queue its intake; may be repeated.

    Raises:
        UploadError: a file is not whole.
        StateError: another site sent this bundle.
    """
    hub.uploads.check_whole(upload)
    digest = upload.offer.bundle_digest
    intake = {
        "cohort": digest,
        "upload": upload.id,
        "site": caller.site_id,
        "key": caller.key_id,
    }

    with hub.registry.session() as session:
        found = session.get(Cohort, digest)
        if found is not None and found.site_id == caller.site_id and found.state in IN_INTAKE:
            return status_of(found)
        site = session.get_one(Site, caller.site_id)
        cohort = cohorts.receive(session, digest, site, upload.offer.total_bytes)
        jobs.enqueue(session, JobKind.INTAKE, intake)
        session.flush()
        hub.log.append(
            "cohort.uploaded",
            actor=f"site:{caller.site}",
            subject=digest,
            details={"site": caller.site, "bytes": cohort.bytes},
        )
        return status_of(cohort)


def in_intake(hub: HubState) -> set[str]:
    """Digests of the bundles whose uploads the intake still needs."""
    with hub.registry.reading() as session:
        return {outline.id for outline in cohorts.outlines(session, IN_INTAKE)}
