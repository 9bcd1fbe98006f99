"""The state machine of the intake.

::

    uploaded ──> quarantined ──> verified ──> accepted ──> withdrawn
        └─────────────┴──────────────┴──────> rejected ──> uploaded (sent again)

Each step leaves files first, then a line in the log, then the new state in one transaction. So a
process that is killed leaves a state and all that the next step needs; the same call goes on from
there and comes to the same end. The log may tell a step twice then, and never leaves one out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from hub_server.config import HubConfig
from hub_server.home import HubHome
from hub_server.intake import canonical
from hub_server.intake.examination import Examiner, Findings
from hub_server.intake.outcome import IntakeOutcome
from hub_server.intake.quarantine import Quarantine
from hub_server.intake.reasons import Reason, reason_of
from hub_server.intake.summary import sign_summary
from hub_server.log import HubLog
from hub_server.registry import Cohort, CohortState, Registry
from hub_server.registry import cohorts as rows
from hub_server.storage import Storage
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import BundleError
from pixcell_share.files import canonical_json

HUB = "hub"
"""The actor of what the hub does by itself."""


@dataclass(frozen=True)
class Intake:
    """All that the intake of one hub works with."""

    config: HubConfig
    registry: Registry
    storage: Storage
    log: HubLog
    key: SiteKey
    quarantine: Quarantine
    on_bytes: Callable[[int], object] = field(default=lambda _: None)
    """Told the bytes of raw files that were read, from several threads."""

    @classmethod
    @contextmanager
    def opened(
        cls, home: HubHome, on_bytes: Callable[[int], object] = lambda _: None
    ) -> Iterator[Intake]:
        """The intake of the hub in ``home``.

        Raises:
            SettingsError: hub.toml is wrong.
            KeyFileError: there is no hub.
        """
        config = home.config()
        registry = home.registry(config)
        try:
            yield cls(
                config=config,
                registry=registry,
                storage=home.storage(config),
                log=home.log(),
                key=home.load_key(),
                quarantine=Quarantine(home.quarantine),
                on_bytes=on_bytes,
            )
        finally:
            registry.close()

    def find(self, digest: str) -> Cohort | None:
        """The cohort's row, if there is one."""
        with self.registry.reading() as session:
            return session.get(Cohort, digest)

    def run(self, digest: str) -> IntakeOutcome:
        """Bring a cohort that is quarantined, or further, to its end.

        Raises:
            StorageError: the disk is full; the state is as it was, and this can be called again.
            DatabaseError: the registry stayed away; likewise.
        """
        with self.registry.reading() as session:
            cohort = rows.find_cohort(session, digest)
        if cohort.state is CohortState.QUARANTINED:
            cohort = self._verify(cohort)
        if cohort.state is CohortState.VERIFIED:
            cohort = self._accept(cohort)
        self.quarantine.clear(digest)
        reason = Reason(cohort.reason) if cohort.reason else None
        return IntakeOutcome(digest, cohort.state, reason, cohort.detail or "")

    def move(
        self,
        digest: str,
        state: CohortState,
        change: Callable[[Session], Cohort],
        *,
        actor: str = HUB,
        details: Mapping[str, Any] | None = None,
    ) -> Cohort:
        """One step: the log, then the registry.

        Args:
            digest: the bundle's.
            state: the new one.
            change: makes it; not called where the cohort is in that state already.
            actor: who does it.
            details: for the log.
        """

        def work(session: Session) -> Cohort:
            cohort = session.get(Cohort, digest)
            return cohort if cohort is not None and cohort.state is state else change(session)

        self.log.append(f"cohort.{state}", actor=actor, subject=digest, details=details)
        return self.registry.run(work)

    def reject(self, digest: str, error: BundleError) -> Cohort:
        """Refuse a bundle; nothing of it stays in the storage."""
        reason = reason_of(error)
        canonical.delete_files(self.storage, digest)
        return self.move(
            digest,
            CohortState.REJECTED,
            lambda session: rows.reject(session, digest, reason, error.cause),
            details={"reason": reason, "detail": error.cause},
        )

    def _verify(self, cohort: Cohort) -> Cohort:
        digest = cohort.id
        examiner = Examiner(self.config, self.config.intake, self.registry, self.storage)
        try:
            facts, album, findings = examiner.examine(
                digest, cohort.site_id, self.quarantine.bundle(digest), self.on_bytes
            )
        except BundleError as error:
            return self.reject(digest, error)
        self.quarantine.write_findings(digest, findings.to_document())
        return self.move(
            digest,
            CohortState.VERIFIED,
            lambda session: rows.mark_verified(session, digest, facts, album.distinct()),
            details=findings.summary,
        )

    def _accept(self, cohort: Cohort) -> Cohort:
        digest = cohort.id
        findings = Findings.from_document(self.quarantine.read_findings(digest))
        summary = sign_summary(
            digest, findings.canonical, findings.summary, cohort.changed_at, self.key
        )
        return self.move(
            digest,
            CohortState.ACCEPTED,
            lambda session: rows.accept(session, digest, findings.canonical, summary),
            details={"summary": hashlib.sha256(canonical_json(summary)).hexdigest()},
        )
