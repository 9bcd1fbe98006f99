"""People: accounts, passwords, and being logged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from hub_server.registry import Account, Registry, Role, accounts
from hub_server.registry.accounts import AccountSettings, LoggedIn
from hub_server.registry.columns import utc_now
from hub_server.registry.tables import WebSession
from pixcell_share.errors import NotFoundError, SettingsError, StateError

PASSWORD = "correct horse battery"


@pytest.fixture
def anna(registry: Registry, accounts_settings: AccountSettings) -> Registry:
    """A registry with one account."""
    with registry.session() as session:
        accounts.add_account(session, "anna", Role.AUDITOR, accounts_settings, password=PASSWORD)
    return registry


def log_in(
    registry: Registry, settings: AccountSettings, name: str = "anna", password: str = PASSWORD
) -> LoggedIn | None:
    return accounts.log_in(registry, name, password, settings)


def who(registry: Registry, token: str) -> str | None:
    with registry.reading() as session:
        found = accounts.who(session, token)
        return None if found is None else found.account.name


def test_the_right_password_logs_in(anna: Registry, accounts_settings: AccountSettings) -> None:
    done = log_in(anna, accounts_settings)
    assert done is not None
    assert (done.account.name, done.account.role) == ("anna", Role.AUDITOR)
    assert who(anna, done.token) == "anna"
    with anna.reading() as session:
        found = accounts.who(session, done.token)
    assert found is not None
    assert found.csrf == done.csrf
    assert len({done.token, done.csrf}) == 2


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", PASSWORD + " "), ("anna", ""), ("Anna", PASSWORD), ("nobody", PASSWORD)],
)
def test_anything_else_does_not(
    anna: Registry, accounts_settings: AccountSettings, name: str, password: str
) -> None:
    assert log_in(anna, accounts_settings, name, password) is None


def test_an_unknown_name_costs_a_hash_as_well(
    anna: Registry, accounts_settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: verifications for a wrong name and for a wrong password."""
    counted: list[str] = []
    verify = accounts._matches

    def count(hashed: str, password: str) -> bool:
        counted.append(hashed.rpartition("$")[0].rpartition("$")[0])
        return verify(hashed, password)

    monkeypatch.setattr(accounts, "_matches", count)
    log_in(anna, accounts_settings, "nobody")
    log_in(anna, accounts_settings, "anna", "wrong password")
    assert len(counted) == 2
    assert len(set(counted)) == 1  # with equal parameters


def test_neither_password_nor_token_is_stored(
    sqlite_registry: Registry, accounts_settings: AccountSettings
) -> None:
    with sqlite_registry.session() as session:
        accounts.add_account(session, "anna", Role.OPERATOR, accounts_settings, password=PASSWORD)
    done = log_in(sqlite_registry, accounts_settings)
    assert done is not None
    sqlite_registry.close()
    stored = Path(sqlite_registry.url.database or "").read_bytes()
    assert b"$argon2id$" in stored
    assert PASSWORD.encode() not in stored
    assert done.token.encode() not in stored


def test_a_session_ends_in_time_and_by_logging_out(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    first, second = (log_in(anna, accounts_settings) for _ in range(2))
    assert first is not None
    assert second is not None
    with anna.session() as session:
        accounts.log_out(session, first.token)
        accounts.log_out(session, "never given")
    assert (who(anna, first.token), who(anna, second.token)) == (None, "anna")
    with anna.session() as session:
        session.execute(update(WebSession).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert who(anna, second.token) is None
    assert log_in(anna, accounts_settings) is not None
    with anna.reading() as session:  # what has expired is swept out by the next log-in
        assert session.scalar(select(func.count()).select_from(WebSession)) == 1


def test_a_session_lasts_as_long_as_the_settings_say(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    before = utc_now()
    done = log_in(anna, replace(accounts_settings, session_hours=2))
    assert done is not None
    assert timedelta(hours=2) <= done.expires_at - before < timedelta(hours=2, minutes=10)


def test_closing_an_account_logs_out_and_keeps_out(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    done = log_in(anna, accounts_settings)
    assert done is not None
    with anna.session() as session:
        accounts.disable(session, "anna")
    assert who(anna, done.token) is None
    assert log_in(anna, accounts_settings) is None
    with anna.session() as session:
        accounts.enable(session, "anna")
    assert who(anna, done.token) is None
    assert log_in(anna, accounts_settings) is not None


def test_a_new_password_ends_the_sessions_of_the_old(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    done = log_in(anna, accounts_settings)
    assert done is not None
    with anna.session() as session:
        accounts.set_password(session, "anna", "another long password", accounts_settings)
    assert who(anna, done.token) is None
    assert log_in(anna, accounts_settings) is None
    assert log_in(anna, accounts_settings, password="another long password") is not None


def test_a_new_role_holds_at_once(anna: Registry, accounts_settings: AccountSettings) -> None:
    done = log_in(anna, accounts_settings)
    assert done is not None
    with anna.session() as session:
        accounts.set_role(session, "anna", Role.RESEARCHER)
    with anna.reading() as session:
        found = accounts.who(session, done.token)
        assert found is not None
        assert found.account.role is Role.RESEARCHER


def test_costlier_settings_renew_the_hash_at_the_next_log_in(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    def stored() -> str:
        with anna.reading() as session:
            return accounts.find_account(session, "anna").password_hash or ""

    costlier = replace(accounts_settings, argon2_time=2)
    assert "t=1," in stored()
    assert log_in(anna, costlier) is not None
    assert "t=2," in stored()
    renewed = stored()
    assert log_in(anna, costlier) is not None
    assert stored() == renewed


def test_a_password_changed_meanwhile_does_not_log_in(
    anna: Registry, accounts_settings: AccountSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = accounts._matches

    def change(hashed: str, password: str) -> bool:
        with anna.session() as session:
            accounts.disable(session, "anna")
        return verify(hashed, password)

    monkeypatch.setattr(accounts, "_matches", change)
    assert log_in(anna, accounts_settings) is None


def test_oidc_logs_in_by_subject_and_never_by_password(
    registry: Registry, accounts_settings: AccountSettings
) -> None:
    with registry.session() as session:
        accounts.add_account(
            session, "ben", Role.RESEARCHER, accounts_settings, oidc_subject="https://idp#17"
        )
    assert log_in(registry, accounts_settings, "ben", "") is None
    with registry.session() as session:
        done = accounts.log_in_by_oidc(session, "https://idp#17", accounts_settings)
        assert accounts.log_in_by_oidc(session, "https://idp#18", accounts_settings) is None
    assert done is not None
    assert who(registry, done.token) == "ben"
    with registry.session() as session:
        accounts.disable(session, "ben")
        assert accounts.log_in_by_oidc(session, "https://idp#17", accounts_settings) is None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"name": "anna", "password": PASSWORD}, StateError),
        ({"name": "eve", "password": "too short"}, SettingsError),
        ({"name": "eve", "password": "x" * 1025}, SettingsError),
        ({"name": "eve"}, SettingsError),
        ({"name": "<eve>", "password": PASSWORD}, SettingsError),
    ],
)
def test_an_account_that_cannot_be_is_not_made(
    anna: Registry,
    accounts_settings: AccountSettings,
    words: dict[str, str],
    error: type[Exception],
) -> None:
    with pytest.raises(error), anna.session() as session:
        accounts.add_account(session, role=Role.OPERATOR, settings=accounts_settings, **words)
    with anna.reading() as session:
        assert [account.name for account in accounts.list_accounts(session)] == ["anna"]


def test_two_accounts_without_a_subject_and_none_with_the_same(
    anna: Registry, accounts_settings: AccountSettings
) -> None:
    def add(name: str) -> Account:
        with anna.session() as session:
            return accounts.add_account(
                session, name, Role.AUDITOR, accounts_settings, oidc_subject="x"
            )

    add("ben")
    with pytest.raises(StateError):
        add("eve")


@pytest.mark.parametrize("act", [accounts.disable, accounts.enable, accounts.find_account])
def test_an_unknown_account_is_named(registry: Registry, act: Callable[..., object]) -> None:
    with pytest.raises(NotFoundError, match="nobody"), registry.session() as session:
        act(session, "nobody")


@pytest.mark.parametrize(
    "words",
    [
        {"session_hours": 0},
        {"password_length": 4},
        {"argon2_time": 0},
        {"argon2_lanes": 4, "argon2_memory_kib": 16},
    ],
)
def test_settings_that_protect_nothing_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(reversed(words))):
        AccountSettings(**words)
