"""What a served hub does beside answering: take bundles in, and clear away what is old."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from hub_server.intake import finish_withdrawals, intake_upload, resume
from hub_server.registry import Cohort, CohortState, Job, JobKind, jobs
from hub_server.web.cohorts import in_intake
from hub_server.web.failures import describe, plain_cause
from hub_server.web.state import HubState
from pixcell_share.errors import HubError, PixcellError

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_CLEAR_EVERY_S = 600.0


class Background:
    """Threads that run while a hub is served."""

    def __init__(self, hub: HubState) -> None:
        self._hub = hub
        self._owner = f"serve-{secrets.token_hex(8)}"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._intakes, daemon=True),
            threading.Thread(target=self._repeat, args=(self._clear, _CLEAR_EVERY_S), daemon=True),
        ]

    def __enter__(self) -> Background:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """An intake that is under way is left behind, and done again after its lease."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _intakes(self) -> None:
        """What a crash interrupted comes first; then the queue."""
        with self._faults_noted():
            finish_withdrawals(self._hub.home)
            resume(self._hub.home)
        self._repeat(self._take_in, _LOOK_EVERY_S)

    def _repeat(self, work: Callable[[], bool], every_s: float) -> None:
        """``work`` again and again, at once while it finds something to do."""
        while not self._stop.is_set():
            found = False
            with self._faults_noted():
                found = work()
            if not found:
                self._stop.wait(every_s)

    @contextmanager
    def _faults_noted(self) -> Iterator[None]:
        """A fault ends what was under way, not the thread."""
        try:
            yield
        except Exception as error:
            _log.error("in the background: %s", describe(error))

    def _take_in(self) -> bool:
        """Do one intake, if one waits."""
        lease = self._hub.config.jobs.lease
        with self._hub.registry.session() as session:
            job = jobs.claim(session, self._owner, (JobKind.INTAKE,), lease)
        if job is None:
            return False
        try:
            with self._heartbeat(job):
                intake_upload(self._hub.home, job.settings)
        except PixcellError as error:
            _log.error("intake %s: %s", job.id[:8], error.code)
            self._failed(job, plain_cause(error))
        except Exception as error:
            _log.error("intake %s: %s", job.id[:8], describe(error))
            self._failed(job, "the intake failed; the fault is in the hub's log")
        else:
            with self._hub.registry.session() as session:
                jobs.finish(session, job.id, self._owner)
            self._hub.uploads.remove(job.settings["upload"])
        return True

    def _failed(self, job: Job, cause: str) -> None:
        again = job.attempts < self._hub.config.jobs.attempts
        with self._hub.registry.session() as session:
            jobs.fail(session, job.id, self._owner, cause, retry=again)
        self._stop.wait(_LOOK_EVERY_S)

    @contextmanager
    def _heartbeat(self, job: Job) -> Iterator[None]:
        """Say that the job goes on, until the block ends."""
        over, lease = threading.Event(), self._hub.config.jobs.lease

        def beat() -> None:
            while not over.wait(lease.seconds / 3):
                with suppress(HubError, PixcellError), self._hub.registry.session() as session:
                    jobs.heartbeat(session, job.id, self._owner, lease=lease)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _clear(self) -> bool:
        """Delete uploads that stood still too long, and those whose cohort is stored."""
        for upload in self._hub.uploads.expire(in_intake(self._hub)):
            _log.info("expired: upload %s of site %s", upload.id[:8], upload.site_id[:8])
        with self._hub.registry.reading() as session:
            for upload in list(self._hub.uploads.uploads()):
                cohort = session.get(Cohort, upload.offer.bundle_digest)
                if cohort is not None and cohort.state is CohortState.ACCEPTED:
                    self._hub.uploads.remove(upload.id)
        return False
