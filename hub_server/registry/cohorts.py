"""What becomes of a bundle: a state machine over its cohort's row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from hub_server.registry import lineage
from hub_server.registry.columns import utc_now
from hub_server.registry.states import CohortState
from hub_server.registry.tables import Cohort, CohortModel, Encoder, Site, TileDigest
from pixcell_share.errors import NotFoundError, StateError
from pixcell_share.weights import ModelIdentity
from pixcell_share.wire import Refusal

TRANSITIONS: Mapping[CohortState, frozenset[CohortState]] = {
    CohortState.UPLOADED: frozenset(
        {CohortState.QUARANTINED, CohortState.REJECTED, CohortState.WITHDRAWN}
    ),
    CohortState.QUARANTINED: frozenset(
        {CohortState.VERIFIED, CohortState.REJECTED, CohortState.WITHDRAWN}
    ),
    CohortState.VERIFIED: frozenset(
        {CohortState.ACCEPTED, CohortState.REJECTED, CohortState.WITHDRAWN}
    ),
    CohortState.ACCEPTED: frozenset({CohortState.WITHDRAWN}),
    CohortState.REJECTED: frozenset({CohortState.UPLOADED}),
    CohortState.WITHDRAWN: frozenset(),
}
"""What may follow each state. A rejected bundle may be sent again: the reason may have been the
hub's (its disk, a key not admitted yet). A withdrawn one never comes back."""

_BEGINNING = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
"""Of a digest: enough digits to name one."""


@dataclass(frozen=True)
class Facts:
    """What a verified bundle says about itself."""

    key_id: str
    manifest: dict[str, Any]
    audit: dict[str, Any]
    counts: dict[str, int]
    """Tiles by class."""
    models: tuple[ModelIdentity, ...]

    @property
    def noncommercial(self) -> bool:
        """Whether the terms of any weights forbid commercial use."""
        return any(model.noncommercial for model in self.models)


@dataclass(frozen=True)
class Withdrawal:
    """A cohort that is gone, and what is left of it."""

    cohort: Cohort
    files_left: bool
    """Whether its files are still to be deleted from the storage, see `forget_files`."""
    encoders: tuple[Encoder, ...]
    """Trained on it, at first hand or through cohorts that such an encoder helped to make."""


def receive(session: Session, digest: str, site: Site, size: int) -> Cohort:
    """A bundle that has come whole: state ``uploaded``.

    Args:
        session: of the registry.
        digest: SHA-256 of its manifest, 64 hex digits.
        site: who sent it.
        size: in bytes.

    Raises:
        StateError: the hub has this bundle (a replay), or it was withdrawn.
    """
    cohort = session.get(Cohort, digest, with_for_update=True)
    if cohort is None:
        cohort = Cohort(id=digest, site_id=site.id, bytes=size)
        session.add(cohort)
        session.flush()
        return cohort
    if cohort.state is not CohortState.REJECTED or cohort.site_id != site.id:
        raise StateError(
            f"the hub has this bundle already: it is {cohort.state}",
            "a bundle is sent once; make a new one for new tiles",
            Refusal.CONFLICT,
        )
    _move(cohort, CohortState.UPLOADED)
    cohort.reason = cohort.detail = None
    cohort.bytes = size
    return cohort


def quarantine(session: Session, digest: str) -> Cohort:
    """Begin to look at it."""
    return _move(_locked(session, digest), CohortState.QUARANTINED)


def mark_verified(
    session: Session, digest: str, facts: Facts, tile_digests: Iterable[bytes] = ()
) -> Cohort:
    """Signature, digests, structure and images hold.

    Args:
        session: of the registry.
        digest: the bundle's.
        facts: what it says.
        tile_digests: one of each tile, for `repeats`; equal ones are kept once.
    """
    cohort = _move(_locked(session, digest), CohortState.VERIFIED)
    cohort.key_id, cohort.manifest, cohort.audit = facts.key_id, facts.manifest, facts.audit
    cohort.counts, cohort.tiles = facts.counts, sum(facts.counts.values())
    cohort.noncommercial = facts.noncommercial
    cohort.licences = sorted({model.licence for model in facts.models})
    session.execute(delete(CohortModel).where(CohortModel.cohort_id == digest))
    models = {model.sha256: model for model in facts.models}
    session.add_all(
        CohortModel(cohort_id=digest, sha256=sha256, role=model.role, name=model.name)
        for sha256, model in models.items()
    )
    _replace_tile_digests(session, digest, tile_digests)
    return cohort


def accept(
    session: Session, digest: str, canonical: Mapping[str, Any], summary: Mapping[str, Any]
) -> Cohort:
    """It lies in the hub's own form in the storage, and the hub has signed for it.

    Args:
        session: of the registry.
        digest: the bundle's.
        canonical: its files, see ``hub_server/intake/canonical.py``.
        summary: the hub's verification summary.
    """
    cohort = _move(_locked(session, digest), CohortState.ACCEPTED)
    cohort.canonical, cohort.summary = dict(canonical), dict(summary)
    return cohort


def reject(session: Session, digest: str, reason: str, detail: str) -> Cohort:
    """Refuse it.

    Args:
        session: of the registry.
        digest: the bundle's.
        reason: a code of ``hub_server/intake/reasons.py``.
        detail: the cause in plain words.
    """
    cohort = _move(_locked(session, digest), CohortState.REJECTED)
    cohort.reason, cohort.detail = reason, detail
    _replace_tile_digests(session, digest, ())
    return cohort


def withdraw(session: Session, digest: str, *, by: str, reason: str) -> Withdrawal:
    """Take a cohort back; its row stays as a tombstone, and so do the digests of its tiles.

    Args:
        session: of the registry.
        digest: the bundle's.
        by: who asked, such as ``site:Uniklinik Köln``.
        reason: in plain words.
    """
    cohort = _move(_locked(session, digest), CohortState.WITHDRAWN)
    cohort.withdrawn_at, cohort.withdrawn_by = cohort.changed_at, by
    cohort.withdrawn_reason = reason
    return _withdrawal(session, cohort)


def withdrawals(session: Session) -> list[Withdrawal]:
    """All tombstones, the latest first."""
    wanted = select(Cohort).where(Cohort.state == CohortState.WITHDRAWN)
    found = session.scalars(wanted.order_by(Cohort.withdrawn_at.desc(), Cohort.id))
    return [_withdrawal(session, cohort) for cohort in found]


def forget_files(session: Session, digest: str) -> None:
    """The files of a withdrawn cohort are deleted from the storage.

    Raises:
        StateError: it is not withdrawn, and its files are in use.
    """
    cohort = _locked(session, digest)
    if cohort.state is not CohortState.WITHDRAWN:
        raise StateError(f"the cohort {digest[:16]} is {cohort.state}", "withdraw it first")
    cohort.canonical = None


def find_cohort(session: Session, digest: str) -> Cohort:
    """The cohort.

    Args:
        session: of the registry.
        digest: the bundle's; its first eight or more digits will do where only one begins so.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    wanted = select(Cohort).where(Cohort.id.startswith(digest)).limit(2)
    found = list(session.scalars(wanted)) if _BEGINNING.fullmatch(digest) else []
    if len(found) != 1:
        raise NotFoundError(
            f"there is no one cohort {ascii(digest)[1:-1][:64]}", "see `pixcell-hub cohorts`"
        )
    return found[0]


def list_cohorts(
    session: Session, states: Collection[CohortState] = tuple(CohortState), site: Site | None = None
) -> list[Cohort]:
    """Cohorts in any of ``states``, of one site or all, the latest first."""
    wanted = select(Cohort).where(Cohort.state.in_(states))
    if site is not None:
        wanted = wanted.where(Cohort.site_id == site.id)
    return list(session.scalars(wanted.order_by(Cohort.created_at.desc(), Cohort.id)))


def stored_bytes(session: Session, site: Site) -> int:
    """What a site's cohorts take, for its quota: all but the rejected and the withdrawn."""
    gone = (CohortState.REJECTED, CohortState.WITHDRAWN)
    wanted = select(func.coalesce(func.sum(Cohort.bytes), 0))
    wanted = wanted.where(Cohort.site_id == site.id, Cohort.state.not_in(gone))
    return int(session.scalar(wanted) or 0)


def repeats(session: Session, digest: str, tile_digests: Collection[bytes]) -> dict[str, int]:
    """How many of these tiles other cohorts have, by cohort.

    Args:
        session: of the registry.
        digest: the bundle's, which is left out.
        tile_digests: of its tiles, each once.
    """
    counts: dict[str, int] = {}
    for part in _parts(sorted(set(tile_digests))):
        wanted = (
            select(TileDigest.cohort_id, func.count())
            .where(TileDigest.digest.in_(part), TileDigest.cohort_id != digest)
            .group_by(TileDigest.cohort_id)
        )
        for cohort_id, count in session.execute(wanted):
            counts[cohort_id] = counts.get(cohort_id, 0) + count
    return counts


def known_tiles(session: Session, digest: str) -> int:
    """How many different tiles of a cohort the registry knows, also of a withdrawn one."""
    wanted = select(func.count()).where(TileDigest.cohort_id == digest)
    return int(session.scalar(wanted) or 0)


def _locked(session: Session, digest: str) -> Cohort:
    """The cohort as it is now; nobody else changes it until the unit of work ends."""
    cohort = find_cohort(session, digest)
    session.refresh(cohort, with_for_update=True)
    return cohort


def _move(cohort: Cohort, state: CohortState) -> Cohort:
    if state not in TRANSITIONS[cohort.state]:
        raise StateError(
            f"the cohort {cohort.id[:16]} is {cohort.state} and cannot become {state}",
            "see `pixcell-hub cohorts` for what it is",
            Refusal.CONFLICT,
        )
    cohort.state, cohort.changed_at = state, utc_now()
    return cohort


def _withdrawal(session: Session, cohort: Cohort) -> Withdrawal:
    encoders = tuple(lineage.trained_on(session, cohort.id))
    return Withdrawal(cohort, cohort.canonical is not None, encoders)


def _replace_tile_digests(session: Session, cohort: str, digests: Iterable[bytes]) -> None:
    session.execute(delete(TileDigest).where(TileDigest.cohort_id == cohort))
    # In parts: a row as a dict takes far more than its digest.
    for part in _parts(sorted(set(digests)), 10_000):
        session.execute(insert(TileDigest), [{"cohort_id": cohort, "digest": d} for d in part])


def _parts(digests: list[bytes], size: int = 500) -> Iterable[list[bytes]]:
    """Below the number of parameters that SQLite takes in one statement."""
    return (digests[start : start + size] for start in range(0, len(digests), size))
