"""What becomes of a bundle: a state machine over its cohort's row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session, defer, joinedload

from hub_server.registry import lineage
from hub_server.registry.columns import utc_now
from hub_server.registry.states import CohortState
from hub_server.registry.tables import Cohort, CohortModel, Encoder, Site
from hub_server.registry.tile_digests import keep_digests
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

_STORED = frozenset(CohortState) - {CohortState.REJECTED, CohortState.WITHDRAWN}
_LATEST_FIRST = (Cohort.created_at.desc(), Cohort.id)
_IN_A_LIST = (
    joinedload(Cohort.site),
    *(defer(column) for column in (Cohort.manifest, Cohort.audit, Cohort.summary)),
)
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
class Outline:
    """What a cohort can be chosen by in a long list."""

    id: str
    site: str
    """Its name."""
    state: CohortState
    classes: frozenset[str]
    licences: list[str] | None
    """None where nothing was verified yet."""
    noncommercial: bool


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
        tile_digests: one of each tile, by which other cohorts are compared; equal ones are kept
            once.
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
    keep_digests(session, digest, tile_digests)
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
    keep_digests(session, digest, ())
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
    wanted = select(Cohort).where(Cohort.state == CohortState.WITHDRAWN).options(*_IN_A_LIST)
    found = session.scalars(wanted.order_by(Cohort.withdrawn_at.desc(), Cohort.id))
    return [_withdrawal(session, cohort) for cohort in found]


def find_withdrawal(session: Session, digest: str) -> Withdrawal:
    """The tombstone of a cohort.

    Raises:
        NotFoundError: there is no such cohort.
    """
    return _withdrawal(session, find_cohort(session, digest))


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
    session: Session,
    states: Collection[CohortState] = tuple(CohortState),
    site: Site | None = None,
    *,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Cohort]:
    """Cohorts with their sites, the latest first; without manifest, audit, files and summary.

    These are read when they are asked for within the unit of work, one query each.

    Args:
        session: of the registry.
        states: they are in one of these.
        site: theirs; None: any.
        since: their state has not changed before.
        limit: how many at most; None: all.
    """
    wanted = select(Cohort).where(Cohort.state.in_(states))
    if site is not None:
        wanted = wanted.where(Cohort.site_id == site.id)
    if since is not None:
        wanted = wanted.where(Cohort.changed_at >= since)
    return list(session.scalars(_listed(wanted).limit(limit)))


def outlines(
    session: Session, states: Collection[CohortState] = tuple(CohortState)
) -> list[Outline]:
    """What all cohorts in any of ``states`` can be chosen by, the latest first."""
    columns = (Cohort.id, Site.name, Cohort.state, Cohort.counts, Cohort.licences)
    wanted = select(*columns, Cohort.noncommercial).join(Site).where(Cohort.state.in_(states))
    return [
        Outline(digest, site, state, frozenset(counts or ()), licences, noncommercial)
        for digest, site, state, counts, licences, noncommercial in session.execute(
            wanted.order_by(*_LATEST_FIRST)
        )
    ]


def cohorts_of(session: Session, digests: Sequence[str]) -> list[Cohort]:
    """These cohorts, as of `list_cohorts`."""
    return list(session.scalars(_listed(select(Cohort).where(Cohort.id.in_(digests)))))


def shard_digests(session: Session, digest: str) -> Iterator[tuple[str, CohortState, str]]:
    """Cohort, state and SHA-256 of each shard that was ever accepted, but of one bundle.

    Args:
        session: of the registry; the rows are read as they are asked for.
        digest: the bundle's.
    """
    columns = (Cohort.id, Cohort.state, Cohort.manifest["subject"])
    ended = (CohortState.ACCEPTED, CohortState.WITHDRAWN)
    wanted = select(*columns).where(Cohort.state.in_(ended), Cohort.id != digest)
    for cohort, state, subjects in session.execute(wanted.execution_options(yield_per=100)):
        for subject in subjects or ():
            if subject["name"].endswith(".h5"):
                yield cohort, state, subject["digest"]["sha256"]


def stored_bytes(session: Session, site: Site, states: Collection[CohortState] = _STORED) -> int:
    """What a site's cohorts take, for its quota; by default all but the rejected and withdrawn."""
    wanted = select(func.coalesce(func.sum(Cohort.bytes), 0))
    wanted = wanted.where(Cohort.site_id == site.id, Cohort.state.in_(states))
    return int(session.scalar(wanted) or 0)


def _listed(wanted: Select[Cohort]) -> Select[Cohort]:
    options = (*_IN_A_LIST, defer(Cohort.canonical))
    return wanted.options(*options).order_by(*_LATEST_FIRST)


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
