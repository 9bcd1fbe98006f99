"""`pixcell-site frontier`: what each way of conditioning costs in use and gives away in privacy.

The cells of the grid share the tiles and embeddings of one work folder; each has draws, checks and
attacks of its own. Nothing is signed. The choice of a setting by this table looks at the data, so
the release has to be audited again, with tiles drawn for it; `synthesize` does that anyway.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.evaluation import cohort_utility
from pixcell_share.files import atomic_write_text
from pixcell_share.privacy import Estimate, Tiles
from pixcell_share.privacy.gate import judge
from pixcell_share.progress import View
from pixcell_share.slides import SlideRecord
from site_agent.evidence import Gathered
from site_agent.home import SiteHome
from site_agent.inputs import find_records
from site_agent.pipeline import Job
from site_agent.report.frontier_plot import write_plot
from site_agent.run_folder import RunFolder
from site_agent.settings import SynthesisSettings
from site_agent.steps.real_tiles import RealTiles


@dataclass(frozen=True, kw_only=True)
class FrontierSettings:
    """The grid."""

    run: SynthesisSettings
    """Slides, model and how many tiles; ``out`` is the work folder."""
    mixes: tuple[int, ...] = (1, 2, 5, 10)
    """Patients behind each tile."""
    epsilons: tuple[float, ...] = (1.0, 3.0, 8.0)
    """Differentially private conditioning."""
    guidance_scales: tuple[float | None, ...] = (None,)
    """None is the model's own."""

    def cells(self) -> list[SynthesisSettings]:
        """One run for each combination."""
        ways: list[dict[str, Any]] = [{"mix": mix} for mix in self.mixes]
        ways += [{"dp_epsilon": epsilon} for epsilon in self.epsilons]
        return [self._cell(way, scale) for scale in self.guidance_scales for way in ways]

    def _cell(self, way: dict[str, Any], scale: float | None) -> SynthesisSettings:
        name = "-".join([*(f"{kind}-{value:g}" for kind, value in way.items()),
                         "own" if scale is None else f"guidance-{scale:g}"])  # fmt: skip
        return replace(
            self.run,
            out=self.run.out / "cells" / name,
            stores=self.run.out,
            sampler=replace(self.run.sampler, guidance_scale=scale),
            **way,
        )


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    name: str
    """``real``, ``mix 5``, ``epsilon 3``."""
    guidance_scale: float | None
    tiles: int
    """Tiles that would be released."""
    balanced_accuracy: Estimate
    """k-NN trained on these tiles, tested on real tiles of patients set aside."""
    frechet: float
    """Fréchet distance to those tiles, in the audit's encoder."""
    residual: Estimate
    """Patient linkage beyond the control group, through the encoder in which it is larger."""
    auc: Estimate
    """How well that attack tells patients of the cohort from others."""
    through: str
    """That encoder: ``audit`` or ``conditioning``."""
    retrieval: Estimate | None
    """Rank-1 retrieval of the source tile beyond chance; None without one."""
    near_copies: int
    """Draws that were dropped, or refuse the release."""
    verdict: str
    """Of the tests that need no written bundle."""
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Frontier:
    """The table and what it recommends."""

    cells: tuple[Cell, ...]
    recommended: str | None
    """Name of the cell; None where none passes."""
    sentence: str
    patients: int
    holdout_patients: int
    encoder: str
    files: tuple[Path, ...]


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers of ``1,2,5``; none of an empty text.

    Raises:
        SettingsError: a part is no positive number.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"{option} {text} is not a list of numbers", "write 1,2,5") from error
    if any(not number > 0 for number in found):
        raise SettingsError(f"{option} {text} holds a number that is not above 0", "write 1,2,5")
    return found


def make_frontier(settings: FrontierSettings, home: SiteHome, key: SiteKey, view: View) -> Frontier:
    """Run the grid; cells done before are kept.

    Raises:
        SettingsError: the grid holds a setting that cannot work with this cohort.
        AuditError: there is no control group.
    """
    records = find_records(settings.run)
    with RunFolder(settings.run).opened(key.key_id) as run:
        run.remember_command()
        base = Job(run, home, key, view, records)
        base.prepared()
        cells, real = [], None
        for place, cell in enumerate(settings.cells()):
            view.say(f"cell {place + 1} of {len(settings.cells())}: {cell.out.name}")
            found, baseline = _run_cell(cell, home, key, view, records)
            cells.append(found)
            real = real or baseline
        encoder = base.models.audit_encoder.name
    assert real is not None
    recommended, sentence = _recommend(cells)
    out = settings.run.out
    frontier = Frontier(
        cells=(real, *cells),
        recommended=recommended,
        sentence=sentence,
        patients=len(base.groups.cohort),
        holdout_patients=len(base.groups.holdout),
        encoder=encoder,
        files=(out / "frontier.json", out / "frontier.md", out / "frontier.svg"),
    )
    _write(frontier)
    return frontier


def _run_cell(
    settings: SynthesisSettings,
    home: SiteHome,
    key: SiteKey,
    view: View,
    records: Sequence[SlideRecord],
) -> tuple[Cell, Cell]:
    """A cell, and the row of the real tiles to compare it with."""
    with RunFolder(settings).opened(key.key_id) as run:
        kept = run.root / "cell.json"
        if kept.exists():
            return _loaded(json.loads(kept.read_text()))
        job = Job(run, home, key, view, records)
        states, sources = job.generated()
        real = RealTiles(run, records, states)
        try:
            gathered = job.gathered(states, sources, real)
        finally:
            real.close()
        found = _measured(job, gathered), _baseline(gathered)
        atomic_write_text(kept, json.dumps([asdict(cell) for cell in found], indent=2) + "\n")
        return found


def _loaded(values: list[dict[str, Any]]) -> tuple[Cell, Cell]:
    cell, real = (_cell_of(entry) for entry in values)
    return cell, real


def _cell_of(values: dict[str, Any]) -> Cell:
    for name in ("balanced_accuracy", "residual", "auc", "retrieval"):
        if values[name] is not None:
            values[name] = Estimate(**values[name])
    return Cell(**{**values, "failed": tuple(values["failed"])})


def _measured(job: Job, gathered: Gathered) -> Cell:
    sample, evidence = gathered.sample, gathered.evidence
    if sample is None or evidence.linkage is None or evidence.conditioned_linkage is None:
        raise AuditError(*_cause(gathered))
    worst = max(
        evidence.linkage, evidence.conditioned_linkage,
        key=lambda found: (found.residual.value, found.auc.value),
    )  # fmt: skip
    settings = job.run.settings
    utility = cohort_utility(
        sample.synthetic, sample.synthetic_labels, sample.holdout, seed=gathered.seed
    )
    result = judge(evidence, job.config.limits)
    way = (
        f"mix {settings.mix}" if settings.dp_epsilon is None else f"epsilon {settings.dp_epsilon:g}"
    )
    near = sum(int((~check.accepted).sum()) for _, check in gathered.checked)
    return Cell(
        name=way,
        guidance_scale=settings.sampler.guidance_scale or job.models.generator.guidance_scale,
        tiles=len(gathered.accepted),
        balanced_accuracy=utility.balanced_accuracy,
        frechet=utility.frechet,
        residual=worst.residual,
        auc=worst.auc,
        through="audit" if worst is evidence.linkage else "conditioning",
        retrieval=evidence.retrieval.excess if evidence.retrieval else None,
        near_copies=near,
        verdict=result.verdict,
        failed=result.failed,
    )


def _baseline(gathered: Gathered) -> Cell:
    """What the conditioning tiles themselves would give: the upper end of both axes."""
    sample, control = gathered.sample, gathered.evidence.encoder_control
    assert sample is not None and control is not None
    tiles: Tiles = sample.conditioning
    utility = cohort_utility(tiles.embeddings, tiles.labels, sample.holdout, seed=gathered.seed)
    return Cell(
        name="real",
        guidance_scale=None,
        tiles=len(tiles),
        balanced_accuracy=utility.balanced_accuracy,
        frechet=utility.frechet,
        residual=control.ceiling.residual,
        auc=control.ceiling.auc,
        through="audit",
        retrieval=None,
        near_copies=len(tiles),
        verdict="REFUSE",
        failed=("near_copies_in_pixels",),
    )


def _cause(gathered: Gathered) -> tuple[str, str]:
    why = gathered.weak[0] if gathered.weak else "the attacks could not be made"
    return why, "use a cohort of more patients"


def _recommend(cells: Sequence[Cell]) -> tuple[str | None, str]:
    """Of the cells that pass and are as useful as the best, the one that gives away least."""
    passing = [cell for cell in cells if cell.verdict == "PASS"]
    if not passing:
        least = min(cells, key=lambda cell: cell.residual.value)
        return None, (
            f"No setting passes the site's limits. {_named(least)} gives away least: residual "
            f"{_shown(least.residual)}."
        )
    best = max(passing, key=lambda cell: cell.balanced_accuracy.value)
    alike = [c for c in passing if c.balanced_accuracy.value >= best.balanced_accuracy.low]
    chosen = min(alike, key=lambda cell: (cell.residual.value, cell.auc.value))
    return chosen.name, (
        f"{_named(chosen)} gives away least among the settings that pass the site's limits and are "
        f"as useful as the best within its interval: balanced accuracy "
        f"{_shown(chosen.balanced_accuracy)}, residual {_shown(chosen.residual)}."
    )


def _comparisons(cells: Sequence[Cell]) -> list[str]:
    """Whether the intervals tell each setting from unmixed conditions of the same guidance."""
    plain = {cell.guidance_scale: cell for cell in cells if cell.name == "mix 1"}
    found = []
    for cell in cells:
        base = plain.get(cell.guidance_scale)
        if base is None or cell is base or cell.name == "real":
            continue
        if cell.residual.high < base.residual.low:
            told = "gives away less than"
        elif cell.residual.low > base.residual.high:
            told = "gives away more than"
        else:
            told = "cannot be told by its residual from"
        found.append(f"{_named(cell)} {told} {_named(base)}.")
    return found


def _named(cell: Cell) -> str:
    scale = f" at guidance {cell.guidance_scale:g}" if cell.guidance_scale else ""
    return f"{cell.name}{scale}"


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f})"


def _write(frontier: Frontier) -> None:
    values = {
        "patients": frontier.patients,
        "holdout_patients": frontier.holdout_patients,
        "audit_encoder": frontier.encoder,
        "recommended": frontier.recommended,
        "sentence": frontier.sentence,
        "cells": [asdict(cell) for cell in frontier.cells],
    }
    data, table, plot = frontier.files
    atomic_write_text(data, json.dumps(values, indent=2) + "\n")
    atomic_write_text(table, _markdown(frontier))
    write_plot(plot, frontier.cells)


def _markdown(frontier: Frontier) -> str:
    head = (
        "| setting | guidance | tiles | balanced accuracy | Fréchet | linkage residual | AUC | "
        "retrieval excess | near copies | verdict |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
    rows = "".join(_row(cell) for cell in frontier.cells)
    told = "".join(f"- {line}\n" for line in _comparisons(frontier.cells))
    return f"{head}{rows}\n{frontier.sentence}\n\n{told}"


def _row(cell: Cell) -> str:
    def spread(estimate: Estimate | None) -> str:
        if estimate is None:
            return ""
        return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"

    scale = f"{cell.guidance_scale:g}" if cell.guidance_scale else ""
    why = f" ({', '.join(cell.failed)})" if cell.failed else ""
    return (
        f"| {cell.name} | {scale} | {cell.tiles} | {spread(cell.balanced_accuracy)} | "
        f"{cell.frechet:.2f} | {spread(cell.residual)} | {spread(cell.auc)} | "
        f"{spread(cell.retrieval)} | {cell.near_copies} | {cell.verdict}{why} |\n"
    )
