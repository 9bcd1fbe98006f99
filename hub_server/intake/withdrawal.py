"""Take a cohort back: its tiles are deleted, and its row stays as a tombstone."""

from __future__ import annotations

from functools import partial

from sqlalchemy.orm import Session

from hub_server.home import HubHome
from hub_server.intake import canonical
from hub_server.intake.machine import Intake
from hub_server.registry import Cohort, CohortState
from hub_server.registry import cohorts as rows
from hub_server.registry.cohorts import Withdrawal
from pixcell_share.errors import StateError


def withdraw(home: HubHome, cohort: str, *, actor: str, reason: str) -> Withdrawal:
    """Withdraw a cohort, in whatever state it is but rejected.

    From the moment that the registry says so nobody is given its tiles any more; then the files are
    deleted. Called again after a crash, it deletes what is left.

    Args:
        home: the hub's.
        cohort: the bundle's digest, or its first eight or more digits.
        actor: who asked, such as ``account:anna`` or ``site:Uniklinik Köln``.
        reason: in plain words; it is shown on the page of withdrawals.

    Returns:
        The tombstone, and the encoders that were trained on the cohort.

    Raises:
        NotFoundError: there is no such cohort.
        StateError: it was rejected, or its intake is under way in another process.
        StorageError: the files cannot be deleted; call it again.
    """
    with Intake.opened(home) as intake:
        with intake.registry.reading() as session:
            digest = rows.find_cohort(session, cohort).id
        with intake.quarantine.locked(digest):
            _mark(intake, digest, actor, reason)
            canonical.delete_files(intake.storage, digest)
            intake.quarantine.clear(digest)
            intake.registry.run(lambda session: rows.forget_files(session, digest))
            return _tombstone(intake, digest)


def finish_withdrawals(home: HubHome) -> list[str]:
    """Delete the files of withdrawn cohorts that a crash left; their digests."""
    with Intake.opened(home) as intake:
        with intake.registry.reading() as session:
            left = [w.cohort.id for w in rows.withdrawals(session) if w.files_left]
        for digest in left:
            canonical.delete_files(intake.storage, digest)
            intake.registry.run(partial(rows.forget_files, digest=digest))
        return left


def _mark(intake: Intake, digest: str, actor: str, reason: str) -> None:
    cohort = intake.find(digest)
    if cohort is not None and cohort.state is CohortState.WITHDRAWN:
        return
    if cohort is None or cohort.state is CohortState.REJECTED:
        raise StateError(
            f"the cohort {digest[:16]} was rejected: the hub holds no tile of it",
            "nothing is left to do",
        )

    def work(session: Session) -> Cohort:
        return rows.withdraw(session, digest, by=actor, reason=reason).cohort

    intake.move(digest, CohortState.WITHDRAWN, work, actor=actor, details={"reason": reason})


def _tombstone(intake: Intake, digest: str) -> Withdrawal:
    with intake.registry.reading() as session:
        return rows.find_withdrawal(session, digest)
