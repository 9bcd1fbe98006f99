"""What people do to a hub: each act changes the registry and stands in the log, or neither.

The command line, the API and the pages call these and nothing below them, so that whatever can be
done in one place is done, and told, as in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from hub_server.config import HubConfig
from hub_server.home import HubHome
from hub_server.intake import withdraw
from hub_server.log import HubLog
from hub_server.registry import Account, Job, Registry, Role, Site, SiteKeyRow
from hub_server.registry import accounts as account_rows
from hub_server.registry import jobs as job_rows
from hub_server.registry import sites as site_rows
from hub_server.registry.cohorts import Withdrawal
from hub_server.registry.sites import Invitation
from pixcell_share.errors import SettingsError
from pixcell_share.wire.rotation import Rotation

T = TypeVar("T")
MAX_REASON = 500


@dataclass(frozen=True)
class Acts:
    """The acts of one person, site or program."""

    home: HubHome
    registry: Registry
    config: HubConfig
    log: HubLog
    actor: str
    """As the log names it: ``operator:cli``, ``account:anna``, ``site:Uniklinik Köln``."""

    @classmethod
    @contextmanager
    def opened(cls, home: HubHome, actor: str) -> Iterator[Acts]:
        """The acts on the hub in ``home``.

        Raises:
            SettingsError: hub.toml is wrong.
            KeyFileError: there is no hub.
        """
        config = home.config()
        log = home.log()
        registry = home.registry(config)
        try:
            yield cls(home, registry, config, log, actor)
        finally:
            registry.close()

    def invite(self, site: str, contact: str = "") -> Invitation:
        """See `hub_server.registry.sites.invite`; the log has no code in it."""
        return self._do(
            "site.invite",
            site,
            lambda session: site_rows.invite(session, site, contact=_plain("contact", contact)),
            lambda made: {"expires": made.expires_at.isoformat()},
        )

    def join(self, code: str, site: str, public_pem: bytes) -> SiteKeyRow:
        """See `hub_server.registry.sites.join`."""
        return self._do(
            "site.join",
            site,
            lambda session: site_rows.join(session, code, site, public_pem),
            lambda key: {"key": key.key_id},
        )

    def admit(self, site: str, fingerprint: str) -> SiteKeyRow:
        """See `hub_server.registry.sites.admit`."""
        return self._do(
            "site.admit",
            site,
            lambda session: site_rows.admit(session, site, fingerprint),
            lambda key: {"key": key.key_id},
        )

    def decline(self, site: str, reason: str) -> Site:
        """See `hub_server.registry.sites.decline`."""
        words = _reason(reason)
        return self._do(
            "site.decline",
            site,
            lambda session: site_rows.decline(session, site, words),
            lambda _: {"reason": words},
        )

    def rotate(self, site: str, key_id: str, rotation: Rotation, hub_key_id: str) -> SiteKeyRow:
        """See `hub_server.registry.sites.rotate`."""
        return self._do(
            "site.rotate",
            site,
            lambda session: site_rows.rotate(session, key_id, rotation, hub_key_id),
            lambda key: {"old": key_id, "new": key.key_id},
        )

    def revoke(self, site: str, reason: str) -> Site:
        """See `hub_server.registry.sites.revoke`."""
        words = _reason(reason)
        return self._do(
            "site.revoke",
            site,
            lambda session: site_rows.revoke(session, site, words),
            lambda _: {"reason": words},
        )

    def revoke_key(self, site: str, fingerprint: str, reason: str) -> SiteKeyRow:
        """See `hub_server.registry.sites.revoke_key`."""
        words = _reason(reason)
        return self._do(
            "site.revoke_key",
            site,
            lambda session: site_rows.revoke_key(session, site, fingerprint, words),
            lambda key: {"key": key.key_id, "reason": words},
        )

    def withdraw(self, cohort: str, reason: str) -> Withdrawal:
        """See `hub_server.intake.withdraw`, which writes the log itself."""
        return withdraw(self.home, cohort, actor=self.actor, reason=_reason(reason))

    def cancel_job(self, job_id: str) -> Job:
        """See `hub_server.registry.jobs.cancel`."""
        return self._do("job.cancel", job_id, lambda session: job_rows.cancel(session, job_id))

    def add_account(
        self, name: str, role: Role, *, password: str | None = None, oidc_subject: str | None = None
    ) -> Account:
        """See `hub_server.registry.accounts.add_account`; argon2 takes its time."""
        return self._do(
            "account.add",
            name,
            lambda session: account_rows.add_account(
                session,
                name,
                role,
                self.config.accounts,
                password=password,
                oidc_subject=oidc_subject,
            ),
            lambda _: {"role": role.value, "oidc": bool(oidc_subject)},
        )

    def set_role(self, name: str, role: Role) -> Account:
        """See `hub_server.registry.accounts.set_role`."""
        return self._do(
            "account.role",
            name,
            lambda session: account_rows.set_role(session, name, role),
            lambda _: {"role": role.value},
        )

    def set_password(self, name: str, password: str) -> None:
        """See `hub_server.registry.accounts.set_password`; argon2 takes its time."""
        self._do(
            "account.password",
            name,
            lambda session: account_rows.set_password(
                session, name, password, self.config.accounts
            ),
        )

    def disable_account(self, name: str) -> None:
        """See `hub_server.registry.accounts.disable`."""
        self._do("account.disable", name, lambda session: account_rows.disable(session, name))

    def enable_account(self, name: str) -> None:
        """See `hub_server.registry.accounts.enable`."""
        self._do("account.enable", name, lambda session: account_rows.enable(session, name))

    def _do(
        self,
        act: str,
        subject: str,
        change: Callable[[Session], T],
        details: Callable[[T], Mapping[str, Any]] = lambda _: {},
    ) -> T:
        """Change the registry and append to the log, in one unit of work.

        The line comes last before the commit: what was logged and then not kept misleads nobody for
        long, and what was kept and not logged would be hidden.
        """
        with self.registry.session() as session:
            done = change(session)
            session.flush()
            self.log.append(act, actor=self.actor, subject=subject, details=details(done))
            return done


def _reason(words: str) -> str:
    """A reason that somebody gives.

    Raises:
        SettingsError: it is empty or too long.
    """
    if not words.strip():
        raise SettingsError("a reason is missing", "say why, in a sentence")
    return _plain("the reason", words)


def _plain(field: str, words: str) -> str:
    """One line of text, without characters that nobody sees.

    Raises:
        SettingsError: it is too long.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    if len(text) > MAX_REASON:
        raise SettingsError(f"{field} has more than {MAX_REASON} characters", "make it shorter")
    return text
