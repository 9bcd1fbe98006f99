"""The main job: from a folder of slides to a signed bundle, and on from wherever it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixcell_share.bundles import SiteKey, check_name
from pixcell_share.errors import NoTissueError, ReleaseRefusedError
from pixcell_share.files import atomic_write_text, canonical_json
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord
from site_agent.clock import Clock
from site_agent.evidence import Gathered, gather, require_stores
from site_agent.groups import Groups, split_patients
from site_agent.home import SiteHome
from site_agent.inputs import UNLABELLED, find_records, patient_of
from site_agent.models import Models
from site_agent.report.audit_json import audit_json
from site_agent.report.audit_page import write_audit
from site_agent.report.describe import Findings, describe_run
from site_agent.report.describe_audit import describe_audit
from site_agent.report.page import write_report
from site_agent.run_folder import RunFolder, SlideState, inventory_digest
from site_agent.settings import SynthesisSettings
from site_agent.steps.checking import CheckedBlock
from site_agent.steps.conditions import Source, find_sources
from site_agent.steps.embedding import embed_slides, is_embedded
from site_agent.steps.generation import Block, generate_tiles
from site_agent.steps.last_tests import LastTests
from site_agent.steps.real_tiles import RealTiles
from site_agent.steps.release import describe_cohort, release
from site_agent.steps.shared_tissue import refuse_shared_tissue
from site_agent.steps.tiling import tile_slides

_DONE, _SOME_LEFT_OUT = 0, 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to; `--json` prints it."""

    status: str
    """``done``, ``part done`` or ``nothing to do``."""
    exit_code: int
    """0, or 3 where slides were left out."""
    counts: dict[str, int]
    """Slides found, used, left out; patients; tiles found, generated, released, dropped."""
    left_out: list[dict[str, str]] = field(default_factory=list)
    """Each slide that was left out, with code, cause and remedy."""
    bundle: Path | None = None
    report: Path | None = None
    audit: Path | None = None
    """The privacy officer's page."""
    verdict: str | None = None
    weak: list[str] = field(default_factory=list)
    """What the audit could not have noticed, in sentences."""
    digest: str | None = None
    """SHA-256 of the bundle's manifest."""
    seconds: float = 0.0


def synthesize(settings: SynthesisSettings, home: SiteHome, key: SiteKey, view: View) -> Outcome:
    """Run the main job, or the part of it that ``settings.part`` names.

    Raises:
        SettingsError: before any slide is opened, where the settings cannot work.
        NoTissueError: no slide gave a tile.
        ReleaseRefusedError: the gate refused the release; ``audit.html`` says why.
        LedgerError: the ledger is not what this site wrote.
        StorageError: the disk is full; the same command goes on later.
    """
    began = time.monotonic()
    require_stores(settings)
    records = find_records(settings)
    for label in {record.label for record in records if record.label}:
        check_name("label", label)  # now, and not after a night of generating
    with RunFolder(settings).opened(key.key_id) as run:
        run.remember_command()
        job = Job(run, home, key, view, records)
        outcome = job.whole() if settings.part is None else job.prepare()
        outcome["seconds"] = round(time.monotonic() - began, 1)
    return Outcome(**outcome)


class Job:
    """The steps of one run, in the order of the data's road."""

    def __init__(
        self,
        run: RunFolder,
        home: SiteHome,
        key: SiteKey,
        view: View,
        records: Sequence[SlideRecord],
    ) -> None:
        self.run = run
        self.home = home
        self.config = home.config()
        self.key = key
        self.view = view
        self.records = records
        self.groups: Groups = self._split(records)
        self.clock = Clock()
        self.models = Models(run.settings)

    def _split(self, records: Sequence[SlideRecord]) -> Groups:
        return split_patients(records, self.run.settings.holdout, self.key)

    def _regroup(self, states: Sequence[SlideState]) -> None:
        """Set patients aside of those whose slides can be used.

        What a part has drawn before for a patient who is now set aside is left alone.
        """
        pairs = zip(self.records, states, strict=True)
        self.groups = self._split([record for record, state in pairs if state.used])

    # -- the steps ------------------------------------------------------------------------

    def prepare(self) -> dict[str, Any]:
        """Tile, embed and generate; the steps that parts of a run do side by side."""
        part = self.run.settings.part
        assert part is not None
        mine = [record for place, record in enumerate(self.records) if part.takes(place)]
        states = self._embedded(mine, self._tiled(mine))
        everyone = [self.run.state(record) for record in self.records]
        direct = self.run.settings.mix == 1 and self.run.settings.dp_epsilon is None
        if direct:
            self._generated(find_sources(self.run, mine, states, self.groups, self.key))
        elif all(state and (not state.used or is_embedded(self.run, state)) for state in everyone):
            known = [state for state in everyone if state]
            self._regroup(known)
            self._generated(find_sources(self.run, self.records, known, self.groups, self.key))
        else:
            self.view.say("mixing needs all slides: run the parts again when each is embedded")
        return {
            "status": "part done",
            "exit_code": _exit_code(states),
            "counts": count_slides(states),
            "left_out": left_out(states),
        }

    def whole(self) -> dict[str, Any]:
        """All steps. What parts or earlier runs did is found and kept."""
        states = self._tiled(self.records)
        before = self.run.release()
        if before and before["inputs"] == self._inputs(states) and self._stands():
            return {**before["outcome"], **self._places(), "status": "nothing to do"}
        self._regroup(states)
        self._require_patients(states)
        states, sources = self.generated(states)
        real = RealTiles(self.run, self.records, states)
        try:
            return self._release(states, self.gathered(states, sources, real))
        finally:
            real.close()

    def prepared(self) -> list[SlideState]:
        """Tile and embed all slides."""
        return self._embedded(self.records, self._tiled(self.records))

    def generated(
        self, states: list[SlideState] | None = None
    ) -> tuple[list[SlideState], list[Source]]:
        """All steps up to the generated tiles.

        Raises:
            NoTissueError: no slide gave a tile.
            ReleaseRefusedError: two patients share a tile.
        """
        states = self._embedded(self.records, states or self._tiled(self.records))
        if not any(state.used for state in states):
            raise NoTissueError(
                f"none of the {len(self.records)} slides gave a tile",
                "; ".join(f"{entry['cause']}: {entry['remedy']}" for entry in left_out(states)),
            )
        self._regroup(states)
        refuse_shared_tissue(self.run, self.records, states)
        sources = find_sources(self.run, self.records, states, self.groups, self.key)
        self._generated(sources)
        return states, sources

    def gathered(
        self,
        states: Sequence[SlideState],
        sources: Sequence[Source],
        real: RealTiles,
        *,
        seed: int = 0,
    ) -> Gathered:
        """Check every tile and attack the cohort."""
        try:
            return gather(
                self.run, self.records, states, sources, self.groups, real, self.models,
                self.config, self.key, self.view, self.clock, seed=seed,
            )  # fmt: skip
        finally:
            self.clock.save(self.run.times)

    def _tiled(self, records: Sequence[SlideRecord]) -> list[SlideState]:
        try:
            return tile_slides(self.run, records, self.view, self.clock)
        finally:
            self.clock.save(self.run.times)

    def _embedded(
        self, records: Sequence[SlideRecord], states: list[SlideState]
    ) -> list[SlideState]:
        if not any(state.used for state in states):
            return states
        self.run.pin_models(self.models.identities)
        try:
            return embed_slides(self.run, records, states, self.models, self.view, self.clock)
        finally:
            self.clock.save(self.run.times)

    def _generated(self, sources: Sequence[Source]) -> None:
        try:
            generate_tiles(self.run, sources, self.key, self.models, self.view, self.clock)
        finally:
            self.clock.save(self.run.times)

    # -- the release ----------------------------------------------------------------------

    def _require_patients(self, states: Sequence[SlideState]) -> None:
        """Refuse a cohort that is too small before hours of generating.

        Raises:
            ReleaseRefusedError: fewer patients than ``site.toml`` asks for.
        """
        used = [r for r, s in zip(self.records, states, strict=True) if s.used]
        if not used:
            return
        found = {patient_of(r): r.label or UNLABELLED for r in used if self.groups.conditions(r)}
        aside = {patient_of(record) for record in used} - found.keys()
        sizes = {label: list(found.values()).count(label) for label in set(found.values())}
        least, limits = min(sizes.values(), default=0), self.config.limits
        short = [
            (len(found), limits.patients, "patients", "in the cohort"),
            (least, limits.class_patients, "class_patients", "in the smallest class"),
        ]
        for count, wanted, name, where in short:
            if count < wanted:
                raise ReleaseRefusedError(
                    f"there are {count} patients {where} ({len(aside)} more are set aside), and "
                    f"the site asks for at least {wanted}",
                    f"add slides of more patients; `{name}` under [limits] in "
                    f"{self.home.config_file} is the privacy officer's to lower",
                )

    def _release(self, states: Sequence[SlideState], gathered: Gathered) -> dict[str, Any]:
        run, models = self.run, self.models
        counts = {
            **count_slides(states),
            "patients": len(self.groups.cohort),
            "patients_set_aside": len(self.groups.holdout),
            **count_tiles(gathered.checked, len(gathered.real)),
        }
        findings = Findings(self.records, states, self.groups, gathered, counts)
        inputs = self._inputs(states)
        run.set_aside_bundle(inputs)
        cohort = describe_cohort(run, gathered, self.config.site, models)
        last = LastTests(run, self.home, self.key, self.records, self.groups, gathered, cohort)
        digest = None
        try:
            summary = release(run, gathered, cohort, last, self.key, self.view)
            digest = summary.digest
            last.settle(digest)
        finally:
            if last.result is not None:
                self._report(findings, last, digest)
        outcome = {
            "exit_code": _exit_code(states),
            "counts": counts,
            "left_out": left_out(states),
            "digest": digest,
            "verdict": last.result.verdict if last.result else None,
            "weak": list(gathered.weak),
        }
        run.keep_release({"inputs": inputs, "outcome": outcome})
        return {**outcome, **self._places(), "status": "done"}

    def _report(self, findings: Findings, last: LastTests, digest: str | None) -> None:
        run, models, result = self.run, self.models, last.result
        assert result is not None
        page = describe_audit(
            run, self.home, self.key, models, findings, result, digest, last.notes
        )
        write_audit(run.audit_report, page)
        values = canonical_json(audit_json(page)).decode()
        atomic_write_text(run.audit_report.with_suffix(".json"), values + "\n")
        write_report(run.report, describe_run(run, self.config, models, findings, result, digest))

    def _inputs(self, states: Sequence[SlideState]) -> list[Any]:
        config = asdict(self.config)
        inventory = inventory_digest(states, self.records, self.config.near_copies)
        return [inventory, self.config.site, config["limits"], config["budget"]]

    def _stands(self) -> bool:
        """Whether the bundle and the reports of the last release are still there."""
        run = self.run
        return run.bundle.is_dir() and run.report.exists() and run.audit_report.exists()

    def _places(self) -> dict[str, Any]:
        run = self.run
        return {"bundle": run.bundle, "report": run.report, "audit": run.audit_report}


def _exit_code(states: Sequence[SlideState]) -> int:
    return _DONE if all(state.used for state in states) else _SOME_LEFT_OUT


def left_out(states: Sequence[SlideState]) -> list[dict[str, str]]:
    """Each slide that was left out, with code, cause and remedy."""
    return [{"slide": state.slide_id, **state.reason} for state in states if state.reason]


def count_slides(states: Sequence[SlideState]) -> dict[str, int]:
    """Slides in = used + left out, and the tiles found on the used ones."""
    used = [state for state in states if state.used]
    return {
        "slides": len(states),
        "slides_used": len(used),
        "slides_left_out": len(states) - len(used),
        "tiles_found": sum(state.tiles for state in used),
    }


def count_tiles(checked: Sequence[tuple[Block, CheckedBlock]], embedded: int) -> dict[str, int]:
    """Tiles embedded, conditions drawn from, and generated = released + dropped."""
    checks = [check for _, check in checked]
    generated = sum(len(check.accepted) for check in checks)
    kept = sum(int(check.accepted.sum()) for check in checks)
    return {
        "tiles_embedded": embedded,
        "conditions": sum(
            len(s.conditions) for s in {b.source.name: b.source for b, _ in checked}.values()
        ),
        "tiles_generated": generated,
        "tiles_released": kept,
        "tiles_dropped": generated - kept,
        "tiles_drawn_again": sum(int((np.asarray(check.redraws) > 0).sum()) for check in checks),
    }
