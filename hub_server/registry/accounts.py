"""People who look at the pages: accounts, passwords, and who is logged in."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub_server.registry.columns import utc_now
from hub_server.registry.database import Registry
from hub_server.registry.states import Role
from hub_server.registry.tables import Account, WebSession
from pixcell_share.bundles import check_name
from pixcell_share.errors import NotFoundError, SettingsError, StateError

_TOKEN_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class AccountSettings:
    """The table ``[accounts]`` of hub.toml."""

    session_hours: float = 12.0
    """How long one stays logged in."""
    password_length: int = 12
    """Characters of a password at least; NIST SP 800-63B asks for 8 and no other rules."""
    argon2_time: int = 3
    """Passes of argon2id. This and the next two: RFC 9106, section 4, for memory that is scarce."""
    argon2_memory_kib: int = 64 * 1024
    argon2_lanes: int = 4

    def __post_init__(self) -> None:
        for name, low, high in (
            ("session_hours", 0.01, 24 * 31),
            ("password_length", 8, 64),
            ("argon2_time", 1, 100),
            ("argon2_memory_kib", 8 * self.argon2_lanes, 1 << 22),
            ("argon2_lanes", 1, 64),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(
                    f"accounts.{name} = {value} is not between {low} and {high}",
                    f"leave it out for the default, {getattr(AccountSettings, name)}",
                )


@dataclass(frozen=True)
class LoggedIn:
    """What the browser is given. The token is kept by nobody else."""

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    account: Account
    expires_at: datetime


def add_account(
    session: Session,
    name: str,
    role: Role,
    settings: AccountSettings,
    *,
    password: str | None = None,
    oidc_subject: str | None = None,
) -> Account:
    """Make an account that logs in by password, by OIDC, or by either.

    Raises:
        SettingsError: the name may not be shown, the password is too short or too long, or there is
            no way to log in.
        StateError: the name or the subject has an account.
    """
    check_name("account", name)
    if password is None and not oidc_subject:
        raise SettingsError("the account has no way to log in", "give a password or a subject")
    taken = select(Account).where(
        (Account.name == name) | (Account.oidc_subject == (oidc_subject or ""))
    )
    if session.scalar(taken) is not None:
        raise StateError(f"there is an account {name!r}, or one of this subject", "choose another")
    hashed = None if password is None else _hash(password, settings)
    account = Account(name=name, role=role, password_hash=hashed, oidc_subject=oidc_subject)
    session.add(account)
    session.flush()
    return account


def set_password(session: Session, name: str, password: str, settings: AccountSettings) -> None:
    """Change a password; whoever was logged in with the old one is not any more.

    Raises:
        NotFoundError: there is no such account.
        SettingsError: the password is too short or too long.
    """
    account = find_account(session, name)
    account.password_hash = _hash(password, settings)
    end_sessions(session, account)


def set_role(session: Session, name: str, role: Role) -> Account:
    """Change what a person may do, from the next request on.

    Raises:
        NotFoundError: there is no such account.
    """
    account = find_account(session, name)
    account.role = role
    return account


def disable(session: Session, name: str) -> Account:
    """Close an account; the person is logged out.

    Raises:
        NotFoundError: there is no such account.
    """
    account = find_account(session, name)
    account.disabled_at = account.disabled_at or utc_now()
    end_sessions(session, account)
    return account


def enable(session: Session, name: str) -> Account:
    """Open a closed account again.

    Raises:
        NotFoundError: there is no such account.
    """
    account = find_account(session, name)
    account.disabled_at = None
    return account


def log_in(
    registry: Registry, name: str, password: str, settings: AccountSettings
) -> LoggedIn | None:
    """Log in by password; None if it is wrong, whatever was wrong about it.

    An unknown name takes as long as a wrong password. Each call takes argon2's time and memory, and
    holds no connection meanwhile; callers limit how many run at once.
    """
    with registry.reading() as session:
        account = session.scalar(select(Account).where(Account.name == name))
    hashed = account.password_hash if account and not account.disabled_at else None
    if not _matches(hashed or _nobodys_hash(settings), password) or account is None or not hashed:
        return None
    stale = _hasher(settings).check_needs_rehash(hashed)
    renewed = _hasher(settings).hash(password) if stale else hashed
    with registry.session() as session:
        account = session.get_one(Account, account.id, with_for_update=True)
        if account.disabled_at is not None or account.password_hash != hashed:
            return None  # closed, or another password, while argon2 was at work
        account.password_hash = renewed
        return _begin(session, account, settings)


def log_in_by_oidc(session: Session, subject: str, settings: AccountSettings) -> LoggedIn | None:
    """Log in whom the identity provider named; None if no open account has this subject."""
    account = session.scalar(select(Account).where(Account.oidc_subject == subject))
    if account is None or account.disabled_at is not None:
        return None
    return _begin(session, account, settings)


def who(session: Session, token: str) -> LoggedIn | None:
    """Who is logged in with ``token``; None if nobody is, or not any more."""
    row = session.get(WebSession, _token_hash(token))
    if row is None or row.expires_at <= utc_now() or row.account.disabled_at is not None:
        return None
    return LoggedIn(token, row.csrf, row.account, row.expires_at)


def log_out(session: Session, token: str) -> None:
    """End one session; an unknown one is ended already."""
    session.execute(delete(WebSession).where(WebSession.token_hash == _token_hash(token)))


def end_sessions(session: Session, account: Account) -> None:
    """Log a person out everywhere."""
    session.execute(delete(WebSession).where(WebSession.account_id == account.id))


def find_account(session: Session, name: str) -> Account:
    """The account of that name.

    Raises:
        NotFoundError: there is none.
    """
    account = session.scalar(select(Account).where(Account.name == name))
    if account is None:
        raise NotFoundError(f"there is no account {name!r}", "see `pixcell-hub accounts list`")
    return account


def list_accounts(session: Session) -> list[Account]:
    """All accounts by name."""
    return list(session.scalars(select(Account).order_by(Account.name)))


def _begin(session: Session, account: Account, settings: AccountSettings) -> LoggedIn:
    now = utc_now()
    session.execute(delete(WebSession).where(WebSession.expires_at <= now))
    token, csrf = secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES)
    expires_at = now + timedelta(hours=settings.session_hours)
    session.add(
        WebSession(
            token_hash=_token_hash(token), account_id=account.id, csrf=csrf, expires_at=expires_at
        )
    )
    session.flush()
    return LoggedIn(token, csrf, account, expires_at)


def _hash(password: str, settings: AccountSettings) -> str:
    if not settings.password_length <= len(password) <= 1024:
        raise SettingsError(
            f"the password must have {settings.password_length} to 1024 characters",
            "use a few random words",
        )
    return _hasher(settings).hash(password)


def _matches(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password[:1025])
    except (VerificationError, InvalidHashError):
        return False


@cache
def _hasher(settings: AccountSettings) -> PasswordHasher:
    return PasswordHasher(
        time_cost=settings.argon2_time,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_lanes,
    )


@cache
def _nobodys_hash(settings: AccountSettings) -> str:
    """Of a password that nobody has, so that an unknown name costs what a known one does."""
    return _hasher(settings).hash(secrets.token_urlsafe(_TOKEN_BYTES))


def _token_hash(token: str) -> str:
    """Looked up by hash: what a clock tells of the comparison says nothing about a token."""
    return hashlib.sha256(token.encode()).hexdigest()
