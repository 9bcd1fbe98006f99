"""Members: from an invitation to admission, new keys, and the end."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hub_server.registry import KeyState, Registry, SiteState, sites
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import (
    KeyFileError,
    MembershipError,
    NotFoundError,
    PixcellError,
    SettingsError,
    StateError,
)
from pixcell_share.wire import Refusal
from pixcell_share.wire.fingerprints import readable
from pixcell_share.wire.rotation import Rotation

HUB = "ab" * 32


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], SiteKey]:
    return lambda name: SiteKey.create(tmp_path / f"{name}.key")


def invited(registry: Registry, name: str = "Uniklinik Köln", **words: timedelta) -> str:
    with registry.session() as session:
        return sites.invite(session, name, **words).code


def joined(registry: Registry, key: SiteKey, name: str = "Uniklinik Köln") -> None:
    code = invited(registry, name)
    with registry.session() as session:
        sites.join(session, code, name, key.public_pem)


def member(registry: Registry, key: SiteKey, name: str = "Uniklinik Köln") -> None:
    joined(registry, key, name)
    with registry.session() as session:
        sites.admit(session, name, key.key_id)


def trusted(registry: Registry) -> set[str]:
    with registry.reading() as session:
        return {key.key_id for key in sites.trusted_keys(session)}


def refusal(registry: Registry, key: SiteKey, **words: bool) -> str | None:
    with registry.reading() as session:
        try:
            sites.signer(session, key.key_id, **words)
        except MembershipError as error:
            return error.reason
    return None


def state(registry: Registry, name: str = "Uniklinik Köln") -> SiteState:
    with registry.reading() as session:
        return sites.find_site(session, name).status


def test_a_key_counts_from_admission_on(registry: Registry, key: Callable[[str], SiteKey]) -> None:
    a = key("a")
    assert refusal(registry, a) == Refusal.UNKNOWN_KEY
    joined(registry, a)
    assert state(registry) is SiteState.PENDING
    assert refusal(registry, a) == Refusal.PENDING
    assert refusal(registry, a, pending=True) is None
    assert trusted(registry) == set()
    with registry.session() as session:
        sites.admit(session, "Uniklinik Köln", readable(a.key_id).upper())
    assert state(registry) is SiteState.ACTIVE
    assert refusal(registry, a) is None
    assert trusted(registry) == {a.key_id}


def test_the_code_is_not_in_the_database(sqlite_registry: Registry) -> None:
    code = invited(sqlite_registry)
    sqlite_registry.close()
    stored = Path(sqlite_registry.url.database or "").read_bytes()
    assert b"K\xc3\xb6ln" in stored
    plain = code.replace("-", "")
    assert all(word.encode() not in stored for word in (code, plain, plain.upper()))
    assert re.fullmatch(r"([a-z2-7]{4}-){5}[a-z2-7]{4}", code)


def test_a_code_is_taken_as_people_type_it(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    code = invited(registry).upper().replace("-", " ")
    with registry.session() as session:
        sites.join(session, f" {code}\n", "Uniklinik Köln", key("a").public_pem)
    assert state(registry) is SiteState.PENDING


def refused_join(registry: Registry, code: str, key: SiteKey, name: str = "Uniklinik Köln") -> str:
    with pytest.raises(MembershipError) as told, registry.session() as session:
        sites.join(session, code, name, key.public_pem)
    assert told.value.reason == Refusal.INVITATION
    return told.value.cause


def test_a_code_is_good_for_one_site_once_and_for_some_time(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    code = invited(registry)
    other = invited(registry, "Charité")
    assert "no invitation" in refused_join(registry, "aaaa-" * 5 + "aaaa", a)
    assert "for the site 'Charité'" in refused_join(registry, other, a)
    with registry.session() as session:
        sites.join(session, code, "Uniklinik Köln", a.public_pem)
    assert "was used" in refused_join(registry, code, b)
    late = invited(registry, "Late", lifetime=timedelta(0))
    assert "expired" in refused_join(registry, late, b, "Late")
    assert state(registry, "Late") is SiteState.INVITED


def test_a_site_whose_answer_was_lost_joins_again(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, code = key("a"), invited(registry)
    for _ in range(2):
        with registry.session() as session:
            row = sites.join(session, code, "Uniklinik Köln", a.public_pem)
    assert (row.key_id, row.status) == (a.key_id, KeyState.PENDING)


def test_a_later_code_voids_the_earlier(registry: Registry, key: Callable[[str], SiteKey]) -> None:
    first, second = invited(registry), invited(registry)
    assert "was used, or replaced" in refused_join(registry, first, key("a"))
    with registry.session() as session:
        sites.join(session, second, "Uniklinik Köln", key("b").public_pem)


def test_a_key_belongs_to_one_site_for_ever(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a = key("a")
    member(registry, a)
    code = invited(registry, "Charité")
    with pytest.raises(MembershipError, match="before"), registry.session() as session:
        sites.join(session, code, "Charité", a.public_pem)


@pytest.mark.parametrize("name", ["", "../etc", "<b>", "K‮öln", " Köln", "Ko\u0308ln", "a" * 65])
def test_a_name_that_may_not_be_shown_is_refused(sqlite_registry: Registry, name: str) -> None:
    with pytest.raises(SettingsError), sqlite_registry.session() as session:
        sites.invite(session, name)


@pytest.mark.parametrize("name", ["UNIKLINIK KÖLN", "Uniklinik köln", "Ｕniklinik Köln"])
def test_a_name_that_reads_as_a_members_is_refused(sqlite_registry: Registry, name: str) -> None:
    invited(sqlite_registry)
    with pytest.raises(StateError, match="Uniklinik Köln"), sqlite_registry.session() as session:
        sites.invite(session, name)


def test_a_name_in_the_letters_of_another_script_is_refused(sqlite_registry: Registry) -> None:
    invited(sqlite_registry, "COMET")
    with pytest.raises(StateError, match="COMET"), sqlite_registry.session() as session:
        sites.invite(session, "СОМЕТ")  # all Cyrillic


@pytest.mark.parametrize(
    "pem", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_no_key_is_refused_and_the_code_stays_good(
    sqlite_registry: Registry, key: Callable[[str], SiteKey], pem: bytes
) -> None:
    code = invited(sqlite_registry)
    with pytest.raises(KeyFileError), sqlite_registry.session() as session:
        sites.join(session, code, "Uniklinik Köln", pem)
    with sqlite_registry.session() as session:
        sites.join(session, code, "Uniklinik Köln", key("a").public_pem)


def test_admission_needs_the_very_fingerprint(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    joined(registry, a)
    for wrong in (b.key_id, a.key_id[:-1], a.key_id[:16], ""):
        with pytest.raises(StateError, match="another"), registry.session() as session:
            sites.admit(session, "Uniklinik Köln", wrong)
    assert trusted(registry) == set()


def test_a_declined_site_is_invited_again_with_another_key(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    joined(registry, a)
    with registry.session() as session:
        sites.decline(session, "Uniklinik Köln", "the fingerprints differ")
    assert state(registry) is SiteState.INVITED
    assert refusal(registry, a, pending=True) == Refusal.REVOKED
    member(registry, b)
    assert trusted(registry) == {b.key_id}


def test_a_new_key_takes_over_and_the_old_one_retires(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    member(registry, a)
    rotation = Rotation.sign(a, b, HUB)
    for _ in range(2):  # the second time for a site whose answer was lost
        with registry.session() as session:
            assert sites.rotate(session, a.key_id, rotation, HUB).key_id == b.key_id
    assert trusted(registry) == {b.key_id}
    assert refusal(registry, a) == Refusal.REVOKED
    with registry.reading() as session:
        old, new = sites.find_site(session, "Uniklinik Köln").keys
        assert (old.status, old.replaced_by) == (KeyState.RETIRED, b.key_id)
        assert (new.status, new.signature) == (KeyState.ACTIVE, rotation.by_old)


def test_a_rotation_holds_for_these_keys_at_this_hub_only(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b, thief = key("a"), key("b"), key("thief")
    member(registry, a)
    good = Rotation.sign(a, b, HUB)
    elsewhere, stolen = Rotation.sign(a, b, "cd" * 32), Rotation.sign(thief, b, HUB)
    for bad in (
        elsewhere,
        stolen,
        dataclasses.replace(good, public_key=thief.public_pem.decode()),
        dataclasses.replace(good, by_new=good.by_old),
        dataclasses.replace(good, by_old="no hex"),
        dataclasses.replace(good, by_old=""),
    ):
        with pytest.raises(MembershipError) as told, registry.session() as session:
            sites.rotate(session, a.key_id, bad, HUB)
        assert told.value.reason == Refusal.SIGNATURE
    assert trusted(registry) == {a.key_id}


def test_only_an_active_key_can_be_rotated_and_to_a_new_one(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b, c = key("a"), key("b"), key("c")
    joined(registry, a)
    member(registry, b, "Charité")

    def rotate(old: SiteKey, new: SiteKey) -> Refusal | str:
        with pytest.raises(MembershipError) as told, registry.session() as session:
            sites.rotate(session, old.key_id, Rotation.sign(old, new, HUB), HUB)
        return told.value.reason

    assert rotate(a, c) == Refusal.PENDING
    assert rotate(c, a) == Refusal.UNKNOWN_KEY
    assert rotate(b, a) == Refusal.CONFLICT
    with registry.session() as session:
        sites.rotate(session, b.key_id, Rotation.sign(b, c, HUB), HUB)
    assert rotate(b, key("d")) == Refusal.REVOKED


def test_a_revoked_site_is_refused_with_every_key_and_its_reason_is_kept(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    member(registry, a)
    with registry.session() as session:
        sites.rotate(session, a.key_id, Rotation.sign(a, b, HUB), HUB)
    with registry.session() as session:
        sites.revoke(session, "Uniklinik Köln", "laptop stolen")
    assert trusted(registry) == set()
    assert refusal(registry, a) == refusal(registry, b) == Refusal.REVOKED
    with registry.reading() as session:
        site = sites.find_site(session, "Uniklinik Köln")
        assert (site.status, site.revoked_reason) == (SiteState.REVOKED, "laptop stolen")
        assert {row.ended_reason for row in site.keys} == {"laptop stolen"}
        assert site.revoked_at is not None and site.revoked_at.tzinfo is not None
    with pytest.raises(StateError, match="already"), registry.session() as session:
        sites.revoke(session, "Uniklinik Köln", "again")


def test_a_revoked_site_comes_back_with_a_new_key_only(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    member(registry, a)
    with registry.session() as session:
        sites.revoke(session, "Uniklinik Köln", "laptop stolen")
    code = invited(registry)
    with pytest.raises(MembershipError, match="before"), registry.session() as session:
        sites.join(session, code, "Uniklinik Köln", a.public_pem)
    member(registry, b)
    assert trusted(registry) == {b.key_id}
    with registry.reading() as session:
        assert sites.find_site(session, "Uniklinik Köln").revoked_at is None


def test_one_key_is_revoked_and_the_others_stay(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    member(registry, a)
    with registry.session() as session:
        sites.rotate(session, a.key_id, Rotation.sign(a, b, HUB), HUB)
    typed = f"{a.key_id[:4].upper()} {a.key_id[4:8]}"
    with registry.session() as session:
        sites.revoke_key(session, "Uniklinik Köln", typed, "laptop stolen")
    assert trusted(registry) == {b.key_id}
    assert state(registry) is SiteState.ACTIVE
    with registry.reading() as session:
        old, new = sites.find_site(session, "Uniklinik Köln").keys
        assert (old.status, old.ended_reason) == (KeyState.REVOKED, "laptop stolen")
        assert new.status is KeyState.ACTIVE


def test_a_site_whose_last_key_is_revoked_is_invited_again(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a, b = key("a"), key("b")
    member(registry, a)
    with registry.session() as session:
        sites.revoke_key(session, "Uniklinik Köln", a.key_id, "laptop stolen")
    assert state(registry) is SiteState.INVITED
    assert refusal(registry, a, pending=True) == Refusal.REVOKED
    member(registry, b)
    assert (trusted(registry), state(registry)) == ({b.key_id}, SiteState.ACTIVE)


@pytest.mark.parametrize(
    ("named", "error", "says"),
    [
        (lambda a: a.key_id[:7], NotFoundError, "no one key"),
        (lambda _: "", NotFoundError, "no one key"),
        (lambda _: "00" * 32, NotFoundError, "no one key"),
        (lambda a: a.key_id, StateError, "waits for admission"),
    ],
)
def test_a_key_that_cannot_be_revoked(
    sqlite_registry: Registry,
    key: Callable[[str], SiteKey],
    named: Callable[[SiteKey], str],
    error: type[PixcellError],
    says: str,
) -> None:
    a = key("a")
    joined(sqlite_registry, a)
    with pytest.raises(error, match=says), sqlite_registry.session() as session:
        sites.revoke_key(session, "Uniklinik Köln", named(a), "x")


def test_revoking_voids_an_open_invitation(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    code = invited(registry)
    with registry.session() as session:
        sites.revoke(session, "Uniklinik Köln", "a mistake")
    assert "was used, or replaced" in refused_join(registry, code, key("a"))


@pytest.mark.parametrize(
    "act",
    [
        lambda session: sites.find_site(session, "Nobody"),
        lambda session: sites.admit(session, "Nobody", "00" * 32),
        lambda session: sites.decline(session, "Nobody", "x"),
        lambda session: sites.revoke(session, "Nobody", "x"),
        lambda session: sites.revoke_key(session, "Nobody", "00" * 32, "x"),
    ],
)
def test_an_unknown_site_is_named(
    sqlite_registry: Registry, act: Callable[[object], object]
) -> None:
    with pytest.raises(NotFoundError, match="Nobody"), sqlite_registry.session() as session:
        act(session)


def test_nobody_is_admitted_or_declined_twice(
    registry: Registry, key: Callable[[str], SiteKey]
) -> None:
    a = key("a")
    member(registry, a)
    for act in (
        lambda session: sites.admit(session, "Uniklinik Köln", a.key_id),
        lambda session: sites.decline(session, "Uniklinik Köln", "x"),
        lambda session: sites.invite(session, "Uniklinik Köln"),
    ):
        with pytest.raises(PixcellError) as told, registry.session() as session:
            act(session)
        assert isinstance(told.value, StateError)
    assert trusted(registry) == {a.key_id}


def test_a_state_of_no_name_cannot_be_stored(registry: Registry) -> None:
    invited(registry)
    with pytest.raises(StateError), registry.session() as session:
        session.execute(text("UPDATE sites SET status = 'admin'"))
