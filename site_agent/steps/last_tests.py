"""The tests that need the written bundle, and the verdict: the last thing before the signature."""

from __future__ import annotations

import getpass
import hashlib
import socket
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles import AuditResult, AuditTest, Cohort, Secrets, SiteKey
from pixcell_share.errors import ReleaseRefusedError
from pixcell_share.files import canonical_json
from pixcell_share.privacy.attributes import attributes_test, inspect_attributes
from pixcell_share.privacy.gate import judge
from pixcell_share.privacy.ledger import Exposure, Spent
from pixcell_share.slides import SlideRecord
from site_agent.evidence import Gathered
from site_agent.groups import Groups, conditioning_tiles
from site_agent.home import SiteHome
from site_agent.inputs import patient_of
from site_agent.run_folder import RunFolder
from site_agent.steps.conditions import Promise, promise_of
from site_agent.steps.release_order import release_order

_MOST_NOTES = 20


class LastTests:
    """Looks at the bytes that would leave, charges the ledger, and judges."""

    def __init__(
        self,
        run: RunFolder,
        home: SiteHome,
        key: SiteKey,
        records: Sequence[SlideRecord],
        groups: Groups,
        gathered: Gathered,
        cohort: Cohort,
    ) -> None:
        self._run = run
        self._home = home
        self._config = home.config()
        self._ledger = home.ledger(key, run.ledger_mark())
        self._key = key
        self._records = records
        self._groups = groups
        self._gathered = gathered
        self._cohort = cohort
        self.result: AuditResult | None = None
        """The verdict, once `judge` was called."""
        self.notes: list[str] = []
        """What the written bundle and the ledger have to say, for the site's own eyes."""

    @cached_property
    def secrets(self) -> Secrets:
        """What must not stand in any byte of the bundle."""
        settings = self._run.settings
        given = (settings.slides, settings.tiles, settings.out, settings.table, self._home.folder)
        return Secrets(
            slides=tuple(
                {r.slide_id for r in self._records} | {r.path.stem for r in self._records}
            ),
            patients=tuple({patient_of(record) for record in self._records}),
            paths=tuple(str(Path(path).resolve()) for path in given if path is not None),
            hosts=(socket.gethostname(),),
            users=(getpass.getuser(),),
        )

    def judge(self, folder: Path) -> AuditResult:
        """The verdict on the shards and the preview in ``folder``.

        The ledger is charged here, and only where everything else passed: between this and the
        signature a crash leaves the release charged, never signed and uncharged.
        """
        evidence, limits = self._gathered.evidence, self._config.limits
        attributes = self._attributes(folder)
        passed = judge(evidence, limits, [attributes]).verdict == "PASS"
        budget = self._charged() if passed else self._reckoned()
        self.result = judge(evidence, limits, [attributes, budget])
        return self.result

    def refuse_empty(self) -> None:
        """The verdict on a cohort of which no tile is left.

        Raises:
            ReleaseRefusedError: always.
        """
        self.result = judge(self._gathered.evidence, self._config.limits)
        raise ReleaseRefusedError(
            "no synthetic tile was left to release: all came too close to real ones",
            "nothing was signed; see audit.html, and try --mix 5 or a lower --guidance-scale",
        )

    def settle(self, digest: str) -> None:
        """Note in the ledger that the release was signed."""
        self._run.keep_ledger_mark(self._ledger.settle(self.release_id, digest))

    @cached_property
    def release_id(self) -> str:
        """Digest of what decides the tiles: the same tiles are charged once."""
        identity = self._run.settings.identity()
        identity.pop("audit_encoder")  # it looks at the tiles, and changes none
        inputs = [self._key.key_id, self._gathered.inventory, identity]
        return hashlib.sha256(canonical_json(inputs)).hexdigest()

    def _attributes(self, folder: Path) -> AuditTest:
        findings = inspect_attributes(
            folder, self.secrets, cohort=self._cohort, tile_sources=self._owners(),
            least_patients=1,
        )  # fmt: skip
        for finding in findings[:_MOST_NOTES]:
            self.notes.append(f"In the bundle, {finding.file}: {finding.what} {finding.private}")
        return attributes_test(findings, sum(1 for _ in folder.iterdir()))

    def _owners(self) -> NDArray[np.int64] | None:
        """(N, k) patients behind the tile at each place of the bundle; None where none is alone."""
        accepted, real = self._gathered.accepted, self._gathered.real
        tiles = accepted.members(real)
        if tiles is None:
            return None
        number = {name: place for place, name in enumerate(self._groups.patients)}
        owner = np.array([number[patient_of(record)] for record, _ in real.used], np.int64)
        slides = np.searchsorted(real.starts, tiles, side="right") - 1
        owners: NDArray[np.int64] = owner[slides][release_order(self._key, len(accepted))]
        return owners

    # -- the ledger -----------------------------------------------------------------------

    @cached_property
    def _promise(self) -> Promise | None:
        return promise_of([block.source for block, _ in self._gathered.checked])

    def _exposures(self) -> dict[str, Exposure]:
        """What this release exposes of each patient of the cohort."""
        promise, key = self._promise, self._key
        epsilon, delta = (promise.epsilon, promise.delta) if promise else (None, 0.0)
        limit = self._run.settings.max_tiles
        tiles: Counter[str] = Counter()
        for record, state in self._gathered.real.used:
            if self._groups.conditions(record):
                tiles[patient_of(record)] += len(conditioning_tiles(state, limit, key))
        return {
            name: Exposure(epsilon=epsilon, delta=delta, tiles=count)
            for name, count in sorted(tiles.items())
            if count
        }

    def _charged(self) -> AuditTest:
        """The ledger's answer; it has charged the release where it agrees."""
        exposures, budget = self._exposures(), self._config.budget
        try:
            return self._budget(self._ledger.spend(self.release_id, exposures, budget), passed=True)
        except ReleaseRefusedError as error:
            self.notes.append(f"{error.cause}: {error.remedy}.")
            return self._budget(
                self._ledger.reckon(self.release_id, exposures, budget), passed=False
            )

    def _reckoned(self) -> AuditTest:
        """What the ledger would say; nothing is charged, since the release is refused anyway."""
        spent = self._ledger.reckon(self.release_id, self._exposures(), self._config.budget)
        return self._budget(spent, passed=not spent.passed)

    def _budget(self, spent: Spent, *, passed: bool) -> AuditTest:
        promise, limits = self._promise, self._config.budget
        return AuditTest(
            name="budget",
            passed=passed,
            figures={
                "private": int(promise is not None),
                "epsilon": promise.epsilon if promise else 0.0,
                "delta": promise.delta if promise else 0.0,
                "total_epsilon": spent.largest.epsilon,
                "total_delta": spent.largest.delta,
                "releases": spent.largest.releases,
                "sequence": spent.mark.sequence if spent.mark else 0,
            },
            limit={"epsilon": limits.epsilon, "delta": limits.delta, "releases": limits.releases},
        )
