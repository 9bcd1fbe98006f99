"""The main job: from a folder of slides to a signed bundle, and on from wherever it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixcell_share.bundles import SiteKey, check_name
from pixcell_share.errors import NoTissueError, ReleaseRefusedError
from pixcell_share.privacy import first_checks, run_control
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord, find_slides
from site_agent.clock import Clock
from site_agent.home import SiteConfig
from site_agent.models import Models
from site_agent.report.describe import Findings, describe_run
from site_agent.report.page import write_report
from site_agent.run_folder import RunFolder, SlideState, inventory_digest
from site_agent.settings import SynthesisSettings
from site_agent.steps.checking import CheckedBlock, check_slides, released
from site_agent.steps.embedding import embed_slides
from site_agent.steps.generation import Block, generate_slides
from site_agent.steps.real_tiles import RealTiles
from site_agent.steps.release import Accepted, release
from site_agent.steps.tiling import tile_slides

_DONE, _SOME_LEFT_OUT = 0, 3
_CONTROLS = "control choice v1"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to; `--json` prints it."""

    status: str
    """``done``, ``part done`` or ``nothing to do``."""
    exit_code: int
    """0, or 3 where slides were left out."""
    counts: dict[str, int]
    """Slides found, used, left out; tiles found, generated, released, dropped, redrawn."""
    left_out: list[dict[str, str]] = field(default_factory=list)
    """Each slide that was left out, with code, cause and remedy."""
    bundle: Path | None = None
    report: Path | None = None
    digest: str | None = None
    """SHA-256 of the bundle's manifest."""
    seconds: float = 0.0


def synthesize(
    settings: SynthesisSettings, config: SiteConfig, key: SiteKey, view: View
) -> Outcome:
    """Run the main job, or the part of it that ``settings.part`` names.

    Raises:
        SettingsError: before any slide is opened, where the settings cannot work.
        NoTissueError: no slide gave a tile.
        ReleaseRefusedError: the checks refused the release; the report says why.
        StorageError: the disk is full; the same command goes on later.
    """
    began = time.monotonic()
    records = find_slides(settings.slides, table=settings.table, mpp=settings.mpp)
    for label in {record.label for record in records if record.label}:
        check_name("label", label)  # now, and not after a night of generating
    with RunFolder(settings).opened(key.key_id) as run:
        job = _Job(run, config, key, view)
        if settings.part is None:
            outcome = job.whole(records)
        else:
            takes = settings.part.takes
            outcome = job.prepare([r for i, r in enumerate(records) if takes(i)])
        outcome["seconds"] = round(time.monotonic() - began, 1)
    return Outcome(**outcome)


class _Job:
    """The steps of one run, in the order of the data's road."""

    def __init__(self, run: RunFolder, config: SiteConfig, key: SiteKey, view: View) -> None:
        self.run = run
        self.config = config
        self.key = key
        self.view = view
        self.clock = Clock()
        self.models = Models(run.settings)

    def prepare(self, records: Sequence[SlideRecord]) -> dict[str, Any]:
        """Tile, embed and generate; the steps that parts of a run do side by side."""
        states = self._generated(records, self._tiled(records))
        return {
            "status": "part done",
            "exit_code": _exit_code(states),
            "counts": count_slides(states),
            "left_out": left_out(states),
        }

    def whole(self, records: Sequence[SlideRecord]) -> dict[str, Any]:
        """All steps. What parts or earlier runs did is found and kept."""
        states = self._tiled(records)
        before = self.run.release()
        if before and before["inputs"] == self._inputs(records, states) and self._stands(before):
            return {**before["outcome"], **self._places(), "status": "nothing to do"}
        states = self._generated(records, states)
        if not any(state.used for state in states):
            raise NoTissueError(
                f"none of the {len(records)} slides gave a tile",
                "; ".join(f"{entry['cause']}: {entry['remedy']}" for entry in left_out(states)),
            )
        inventory = inventory_digest(states, records, self.config.near_copies)
        real = RealTiles(self.run, records, states)
        try:
            return self._check_and_release(records, states, inventory, real)
        finally:
            real.close()

    def _tiled(self, records: Sequence[SlideRecord]) -> list[SlideState]:
        try:
            return tile_slides(self.run, records, self.view, self.clock)
        finally:
            self.clock.save(self.run.times)

    def _generated(
        self, records: Sequence[SlideRecord], states: list[SlideState]
    ) -> list[SlideState]:
        if not any(state.used for state in states):
            return states
        run, view, clock = self.run, self.view, self.clock
        run.pin_models(self.models.identities)
        try:
            states = embed_slides(run, records, states, self.models, view, clock)
            generate_slides(run, states, self.key, self.models, view, clock)
        finally:
            clock.save(run.times)
        return states

    def _check_and_release(
        self,
        records: Sequence[SlideRecord],
        states: Sequence[SlideState],
        inventory: str,
        real: RealTiles,
    ) -> dict[str, Any]:
        run, view, models = self.run, self.view, self.models
        index = real.near_copy_index(self.config.near_copies)
        checked = check_slides(
            run, inventory, states, real, index, self.key, models, view, self.clock
        )
        seed = int.from_bytes(self.key.derive(_CONTROLS)[:8])
        control = run_control(index, real.image, models.embed_one, seed=seed)
        audit = first_checks(
            released(checked, "pixel_ncc"),
            released(checked, "embedding_similarity"),
            control,
            self.config.near_copies,
        )
        self.clock.save(run.times)
        counts = {**count_slides(states), **count_tiles(checked, len(real))}
        findings = Findings(records, states, checked, inventory, real, control, audit, counts)
        inputs = self._inputs(records, states)
        run.set_aside_bundle(inputs)
        try:
            accepted = Accepted.of(checked)
            summary = release(
                run, inventory, records, accepted, audit, self.config.site, self.key, models, view
            )
        except ReleaseRefusedError:
            write_report(run.report, describe_run(run, self.config, models, findings, None))
            raise
        report = describe_run(run, self.config, models, findings, summary.digest)
        write_report(run.report, report)
        outcome = {
            "exit_code": _exit_code(states),
            "counts": counts,
            "left_out": left_out(states),
            "digest": summary.digest,
        }
        run.keep_release({"inputs": inputs, "outcome": outcome})
        return {**outcome, **self._places(), "status": "done"}

    def _inputs(self, records: Sequence[SlideRecord], states: Sequence[SlideState]) -> list[Any]:
        return [inventory_digest(states, records, self.config.near_copies), self.config.site]

    def _stands(self, before: dict[str, Any]) -> bool:
        """Whether the bundle and the report of the last release are still there."""
        return self.run.bundle.is_dir() and self.run.report.exists()

    def _places(self) -> dict[str, Any]:
        return {"bundle": self.run.bundle, "report": self.run.report}


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
    """Tiles embedded, those conditioned on, and generated = released + dropped."""
    checks = [check for _, check in checked]
    generated = sum(len(check.accepted) for check in checks)
    kept = sum(int(check.accepted.sum()) for check in checks)
    return {
        "tiles_embedded": embedded,
        "tiles_conditioned": sum(len(np.unique(block.tiles)) for block, _ in checked),
        "tiles_generated": generated,
        "tiles_released": kept,
        "tiles_dropped": generated - kept,
        "tiles_drawn_again": sum(int((check.redraws > 0).sum()) for check in checks),
    }
