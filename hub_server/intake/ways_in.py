"""The two ways in: an upload that came whole, and a folder that the operator has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hub_server.home import HubHome
from hub_server.intake import arrival, history
from hub_server.intake.machine import HUB, Intake
from hub_server.intake.outcome import IntakeOutcome
from hub_server.intake.reasons import reason_of
from hub_server.intake.signers import bundle_digest_of, signer_of
from hub_server.registry import Cohort, CohortState, Site
from hub_server.registry import cohorts as rows
from hub_server.registry.columns import utc_now
from pixcell_share.errors import BundleError, StateError

OPERATOR = "operator"
_UNDER_WAY = (CohortState.UPLOADED, CohortState.QUARANTINED, CohortState.VERIFIED)


def intake_folder(
    home: HubHome, folder: Path, on_bytes: Callable[[int], object] = lambda _: None
) -> IntakeOutcome:
    """Take in a bundle that lies in a folder of this machine; the folder is left as it is.

    Limits and quotas are those of uploads. Called again after a crash, it goes on.

    Args:
        home: the hub's.
        folder: the bundle.
        on_bytes: told the bytes of raw files that were read, from several threads.

    Returns:
        Accepted, or rejected with a reason. What is not signed by a member is refused without a
        trace in the registry: there is no site that it could be booked to. The log has it.

    Raises:
        StorageError: the disk is full; nothing is lost, call it again.
        StateError: another process takes in the same bundle.
    """
    with Intake.opened(home, on_bytes) as intake:
        digest = ""
        try:
            manifest = arrival.read_manifest_file(folder)
            digest = bundle_digest_of(manifest)
            with intake.quarantine.locked(digest):
                site = _signing_site(intake, manifest)
                return _from_folder(intake, digest, site, folder)
        except BundleError as error:
            return _refused(intake, digest, error, OPERATOR)


def intake_upload(
    home: HubHome,
    settings: Mapping[str, Any],
    on_bytes: Callable[[int], object] = lambda _: None,
) -> IntakeOutcome:
    """Take in an upload that came whole; for jobs of the kind ``intake``.

    Called again after a crash, it goes on; after the end, it says what that was.

    Args:
        home: the hub's.
        settings: of the job: ``cohort``, the bundle's digest; ``upload``, the id of the upload;
            ``site``, the id of the site that sent it.
        on_bytes: told the bytes of raw files that were read, from several threads.

    Raises:
        StorageError: the disk is full; nothing is lost, call it again.
        StateError: another process takes in the same bundle.
    """
    digest, site_id = str(settings["cohort"]), str(settings["site"])
    source = home.uploads / str(settings["upload"]) / "bundle"
    with Intake.opened(home, on_bytes) as intake, intake.quarantine.locked(digest):
        with intake.registry.reading() as session:
            site = session.get_one(Site, site_id)
        if source.is_dir():
            size = sum(path.stat().st_size for path in source.iterdir())
            try:
                with intake.registry.reading() as session:
                    history.check_replay(session, digest)
            except BundleError as error:
                return _refused(intake, digest, error, f"site:{site.name}")
            _receive(intake, digest, site, size, f"site:{site.name}")
        return _quarantine_and_run(intake, digest, source)


def resume(home: HubHome) -> list[IntakeOutcome]:
    """Finish what a crash interrupted in the quarantine, and clear what is left over there.

    What another process is working on is left to it, and what was not moved here yet to whoever
    calls `intake_folder` or `intake_upload` again.
    """
    outcomes = []
    with Intake.opened(home) as intake:
        for digest in intake.quarantine.digests():
            with suppress(StateError), intake.quarantine.locked(digest):
                cohort, bundle = intake.find(digest), intake.quarantine.bundle(digest)
                if cohort is None or cohort.state not in _UNDER_WAY:
                    intake.quarantine.clear(digest)
                elif cohort.state is not CohortState.UPLOADED or bundle.is_dir():
                    outcomes.append(_quarantine_and_run(intake, digest, bundle))
    return outcomes


def _signing_site(intake: Intake, manifest: bytes) -> Site:
    with intake.registry.reading() as session:
        history.check_replay(session, bundle_digest_of(manifest))
        key_days = intake.config.intake.key_days
        return signer_of(session, manifest, utc_now(), key_days=key_days).site


def _from_folder(intake: Intake, digest: str, site: Site, folder: Path) -> IntakeOutcome:
    cohort = intake.find(digest)
    if cohort is not None and cohort.state in _UNDER_WAY[1:]:
        return intake.run(digest)
    with intake.registry.reading() as session:
        stored = rows.stored_bytes(session, site)
    waiting = cohort is not None and cohort.state is CohortState.UPLOADED
    stored -= cohort.bytes if cohort is not None and waiting else 0
    sizes = arrival.measure(folder, intake.config.uploads, stored)
    part = intake.quarantine.part(digest)
    arrival.copy_bundle(folder, part, sizes, intake.config.uploads)
    _receive(intake, digest, site, sum(sizes.values()), OPERATOR)
    return _quarantine_and_run(intake, digest, part)


def _receive(intake: Intake, digest: str, site: Site, size: int, actor: str) -> None:
    """State ``uploaded``, unless it is under way already."""

    def work(session: Session) -> Cohort:
        return rows.receive(session, digest, session.get_one(Site, site.id), size)

    cohort = intake.find(digest)
    if cohort is None or cohort.state not in _UNDER_WAY:
        intake.move(
            digest,
            CohortState.UPLOADED,
            work,
            actor=actor,
            details={"site": site.name, "bytes": size},
        )


def _quarantine_and_run(intake: Intake, digest: str, source: Path) -> IntakeOutcome:
    cohort = intake.find(digest)
    if cohort is not None and cohort.state is CohortState.UPLOADED:
        if source != intake.quarantine.bundle(digest):
            intake.quarantine.take(digest, source)
        intake.move(
            digest, CohortState.QUARANTINED, lambda session: rows.quarantine(session, digest)
        )
    return intake.run(digest)


def _refused(intake: Intake, digest: str, error: BundleError, actor: str) -> IntakeOutcome:
    """Before there is a row that could change: only the log tells."""
    reason = reason_of(error)
    details = {"reason": reason, "detail": error.cause, "by": HUB}
    intake.log.append("bundle.refuse", actor=actor, subject=digest, details=details)
    return IntakeOutcome(digest, CohortState.REJECTED, reason, error.cause)
