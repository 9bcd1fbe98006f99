"""What becomes of a bundle: its states, its replays, and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub_server.registry import Cohort, CohortState, Registry, cohorts, tile_digests
from hub_server.registry.columns import utc_now
from hub_server.registry.tables import TileDigest
from pixcell_share.errors import NotFoundError, StateError
from pixcell_share.wire import Refusal
from tests.hub_server.registry_helpers import a_site, accepted, digest, facts, model, trained

A = digest("a")
STATES = tuple(CohortState)


def put(registry: Registry, state: CohortState) -> None:
    """A cohort in ``state``, put there without the machine."""
    with registry.session() as session:
        site = a_site(session)
        session.add(Cohort(id=A, site_id=site.id, state=state))


def receive(session: Session) -> Cohort:
    return cohorts.receive(session, A, cohorts.find_cohort(session, A).site, 10)


ACTS: dict[CohortState, Callable[[Session], Cohort]] = {
    CohortState.UPLOADED: receive,
    CohortState.QUARANTINED: lambda session: cohorts.quarantine(session, A),
    CohortState.VERIFIED: lambda session: cohorts.mark_verified(session, A, facts()),
    CohortState.ACCEPTED: lambda session: cohorts.accept(session, A, {}, {}),
    CohortState.REJECTED: lambda session: cohorts.reject(session, A, "digest", "was changed"),
    CohortState.WITHDRAWN: lambda session: (
        cohorts.withdraw(session, A, by="site:Köln", reason="consent withdrawn").cohort
    ),
}
ALLOWED = {
    ("uploaded", "quarantined"),
    ("uploaded", "rejected"),
    ("uploaded", "withdrawn"),
    ("quarantined", "verified"),
    ("quarantined", "rejected"),
    ("quarantined", "withdrawn"),
    ("verified", "accepted"),
    ("verified", "rejected"),
    ("verified", "withdrawn"),
    ("accepted", "withdrawn"),
    ("rejected", "uploaded"),
}
"""Written out here once more: the table itself is under test."""


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_every_step_is_allowed_or_refused(
    sqlite_registry: Registry, before: CohortState, after: CohortState
) -> None:
    put(sqlite_registry, before)
    if (before, after) in ALLOWED:
        with sqlite_registry.session() as session:
            assert ACTS[after](session).state is after
    else:
        with pytest.raises(StateError) as told, sqlite_registry.session() as session:
            ACTS[after](session)
        assert told.value.reason == Refusal.CONFLICT
    with sqlite_registry.reading() as session:
        now = cohorts.find_cohort(session, A).state
    assert now is (after if (before, after) in ALLOWED else before)


def test_the_way_of_a_bundle(registry: Registry) -> None:
    with registry.session() as session:
        site = a_site(session)
        assert cohorts.receive(session, A, site, 1234).state is CohortState.UPLOADED
    with registry.session() as session:
        cohorts.quarantine(session, A)
        models = (model("1" * 64), model("2" * 64, noncommercial=True))
        cohorts.mark_verified(session, A, facts(*models), [b"x" * 16, b"y" * 16, b"x" * 16])
    with registry.session() as session:
        cohorts.accept(session, A, {"format": "npy"}, {"payload": "e30="})
    with registry.reading() as session:
        cohort = cohorts.find_cohort(session, A[:8])
        assert cohort.site.name == "Köln"
        assert (cohort.tiles, cohort.bytes) == (12, 1234)
        assert list(cohort.counts or {}) == ["tumour", "stroma"]
        assert cohort.noncommercial
        assert cohort.licences == ["apache-2.0", "cc-by-nc-4.0"]
        assert (cohort.canonical, cohort.summary) == ({"format": "npy"}, {"payload": "e30="})
        assert cohort.changed_at >= cohort.created_at
        assert session.scalar(select(func.count()).select_from(TileDigest)) == 2


@pytest.mark.parametrize("state", [state for state in STATES if state != "rejected"])
def test_a_bundle_is_taken_once(registry: Registry, state: CohortState) -> None:
    put(registry, state)
    with pytest.raises(StateError, match=f"it is {state}"), registry.session() as session:
        receive(session)


def test_a_rejected_bundle_may_come_again_from_its_site_only(registry: Registry) -> None:
    put(registry, CohortState.QUARANTINED)
    with registry.session() as session:
        cohorts.reject(session, A, "disk_full", "the hub's disk was full")
    with registry.reading() as session:
        found = cohorts.find_cohort(session, A)
        assert (found.reason, found.detail) == ("disk_full", "the hub's disk was full")
    with pytest.raises(StateError), registry.session() as session:
        cohorts.receive(session, A, a_site(session, "Charité"), 10)
    with registry.session() as session:
        again = receive(session)
        assert (again.state, again.reason, again.detail) == (CohortState.UPLOADED, None, None)


def test_verifying_again_replaces_what_was_known(registry: Registry) -> None:
    put(registry, CohortState.QUARANTINED)
    with registry.session() as session:
        cohorts.mark_verified(session, A, facts(model("1" * 64)), [b"x" * 16])
        cohorts.reject(session, A, "disk_full", "full")
        receive(session)
        cohorts.quarantine(session, A)
        cohorts.mark_verified(session, A, facts(model("1" * 64)), [b"x" * 16, b"z" * 16])
    with registry.reading() as session:
        found = set(session.scalars(select(TileDigest.digest)))
    assert found == {b"x" * 16, b"z" * 16}


def test_repeats_are_counted_by_cohort(registry: Registry) -> None:
    tiles = [number.to_bytes(16, "big") for number in range(1300)]
    with registry.session() as session:
        site = a_site(session)
        for letter, own in (("a", tiles[:1200]), ("b", tiles[1100:])):
            cohorts.receive(session, digest(letter), site, 1)
            cohorts.quarantine(session, digest(letter))
            cohorts.mark_verified(session, digest(letter), facts(), own)
    with registry.reading() as session:
        assert tile_digests.repeats(session, digest("c"), tiles) == {A: 1200, digest("b"): 200}
        assert tile_digests.repeats(session, A, tiles) == {digest("b"): 200}
        assert tile_digests.repeats(session, A, []) == {}
    with registry.session() as session:
        cohorts.withdraw(session, digest("b"), by="hub", reason="x")
    with registry.reading() as session:
        assert tile_digests.repeats(session, A, tiles) == {digest("b"): 200}
        assert tile_digests.known_tiles(session, digest("b")) == 200


def test_a_withdrawn_cohort_leaves_a_tombstone(registry: Registry) -> None:
    with registry.session() as session:
        accepted(session, a_site(session), "a")
        trained(session, "first", "a")
    with registry.session() as session:
        gone = cohorts.withdraw(session, A, by="site:Köln", reason="consent withdrawn")
    assert gone.files_left
    assert [encoder.name for encoder in gone.encoders] == ["first"]
    with registry.reading() as session:
        (stone,) = cohorts.withdrawals(session)
        assert stone.cohort.withdrawn_by == "site:Köln"
        assert stone.cohort.withdrawn_reason == "consent withdrawn"
        assert stone.cohort.withdrawn_at == stone.cohort.changed_at
        assert stone.cohort.tiles == 12
    for _ in range(2):
        with registry.session() as session:
            cohorts.forget_files(session, A)
    with registry.reading() as session:
        assert not cohorts.withdrawals(session)[0].files_left


def test_files_in_use_are_not_forgotten(registry: Registry) -> None:
    with registry.session() as session:
        accepted(session, a_site(session), "a")
    with pytest.raises(StateError, match="is accepted"), registry.session() as session:
        cohorts.forget_files(session, A)


def test_a_quota_counts_what_is_kept(registry: Registry) -> None:
    with registry.session() as session:
        site, other = a_site(session), a_site(session, "Charité")
        for letter in "ab":
            accepted(session, site, letter)
        accepted(session, other, "c")
        assert cohorts.stored_bytes(session, site) == 2000
        cohorts.withdraw(session, A, by="hub", reason="x")
        session.flush()
        assert cohorts.stored_bytes(session, site) == 1000


def test_cohorts_are_listed_by_state_and_site(registry: Registry) -> None:
    with registry.session() as session:
        site, other = a_site(session), a_site(session, "Charité")
        accepted(session, site, "a")
        cohorts.receive(session, digest("b"), other, 1)

    def listed(**words: object) -> set[str]:
        with registry.reading() as session:
            return {cohort.id for cohort in cohorts.list_cohorts(session, **words)}

    assert listed() == {A, digest("b")}
    assert listed(limit=1) == {digest("b")}, "the latest"
    assert listed(since=utc_now()) == set()
    assert listed(states=[CohortState.ACCEPTED]) == {A}
    assert listed(site=other) == {digest("b")}


@pytest.mark.parametrize("wanted", ["", "aaaaaaa", "b" * 8, "a%", "________", "A" * 64])
def test_a_cohort_is_found_by_eight_digits_that_are_its_own(
    sqlite_registry: Registry, wanted: str
) -> None:
    with sqlite_registry.session() as session:
        site = a_site(session)
        cohorts.receive(session, A, site, 1)
        cohorts.receive(session, "bbbbbbbb" + "0" * 56, site, 1)
        cohorts.receive(session, "bbbbbbbb" + "1" * 56, site, 1)
    with pytest.raises(NotFoundError), sqlite_registry.reading() as session:
        cohorts.find_cohort(session, wanted)


def test_a_long_list_does_not_bring_what_is_large(registry: Registry) -> None:
    with registry.session() as session:
        accepted(session, a_site(session), "a")
    with registry.reading() as session:
        (listed,) = cohorts.list_cohorts(session)
    assert not {"manifest", "audit", "canonical", "summary"} & vars(listed).keys()
    assert (listed.site.name, listed.tiles) == ("Köln", 12)
    with registry.reading() as session:
        (listed,) = cohorts.list_cohorts(session)
        assert cohorts.find_cohort(session, A).canonical, "asked for, it comes"
        (outline,) = cohorts.outlines(session)
        assert (outline.site, outline.classes) == (listed.site.name, set(listed.counts or {}))
        assert [each.id for each in cohorts.cohorts_of(session, [outline.id])] == [A]
        assert list(cohorts.shard_digests(session, A)) == []
