"""What the commands print: tables for people, one JSON object for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from pixcell_share.checks import Check, exit_code
from pixcell_share.console import output, print_json
from pixcell_share.errors import SettingsError
from site_agent.auditing import AuditOutcome
from site_agent.doctor import print_checks
from site_agent.frontier import Frontier
from site_agent.home import SiteHome
from site_agent.pipeline import Outcome
from site_agent.plan import Plan
from site_agent.rates import Rates
from site_agent.region import RegionOutcome
from site_agent.region_files import PRIVATE

_out = output()


def show_checks(checks: Sequence[Check], as_json: bool) -> int:
    """The doctor's findings; returns the exit code."""
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "exit_code": exit_code(checks)})
    else:
        print_checks(checks)
    return exit_code(checks)


def show_plan(plan: Plan, as_json: bool) -> None:
    """What a run would do."""
    if as_json:
        print_json(_plain(asdict(plan)))
        return
    table = Table("slide", "µm/px", "tiles, about", "left out because")
    for slide in plan.slides:
        mpp = f"{slide.mpp:.3f}" if slide.mpp else ""
        table.add_row(slide.slide_id, mpp, str(slide.tiles or ""), slide.reason)
    _out.print(table)
    _out.print(f"real tiles       about {plan.tiles}")
    _out.print(f"synthetic tiles  about {plan.synthetic}")
    if plan.rates:
        _out.print(f"time             about {_duration(plan.seconds)} on this machine")
    free = f"{_size(plan.bytes_free)} free"
    _out.print(f"disk             about {_size(plan.bytes_needed)} ({free})")
    if plan.bytes_needed > plan.bytes_free:
        _out.print("[bold]the disk is too small for this run: choose another --out[/bold]")
    _out.print("nothing was written")


def show_outcome(outcome: Outcome, home: SiteHome, as_json: bool) -> None:
    """What a run came to, and where its results are."""
    if as_json:
        print_json({**_plain(asdict(outcome)), "public_key": str(home.public_key)})
        return
    counts = outcome.counts
    if outcome.status == "nothing to do":
        _out.print("nothing to do: everything is done already")
    _out.print(
        f"slides  {counts['slides']} found = {counts['slides_used']} used "
        f"+ {counts['slides_left_out']} left out"
    )
    for entry in outcome.left_out:
        _out.print(f"  {entry['slide']}: {entry['cause']}\n    {entry['remedy']}")
    if outcome.status == "part done":
        _out.print("this part is done; when all are, run the command without --array to join them")
        return
    _out.print(
        f"patients  {counts['patients']} in the cohort, {counts['patients_set_aside']} set aside"
    )
    _out.print(
        f"tiles   {counts['tiles_found']} found = {counts['tiles_embedded']} embedded; "
        f"{counts['tiles_generated']} generated = {counts['tiles_released']} released "
        f"+ {counts['tiles_dropped']} dropped"
    )
    _out.print(f"verdict           {outcome.verdict}: evidence, not a guarantee")
    for sentence in outcome.weak:
        _out.print(f"                  {sentence}")
    _out.print(f"audit (private)   {outcome.audit}")
    _out.print(f"report (private)  {outcome.report}")
    _out.print(f"bundle            {outcome.bundle}")
    _out.print(f"bundle digest     {outcome.digest}")
    _out.print(f"to verify         pixcell-hub verify {outcome.bundle} --trust {home.public_key}")


def show_rates(rates: Rates, as_json: bool) -> None:
    """Tiles a second and shares of the time."""
    shares = rates.shares()
    if as_json:
        print_json({"tiles_per_second": asdict(rates), "share_of_time": shares})
        return
    table = Table("work", "tiles/s", "share of time")
    for kind, rate in asdict(rates).items():
        table.add_row(kind, f"{rate:.1f}", f"{shares[kind]:.1%}")
    _out.print(table)


def show_region(outcome: RegionOutcome, as_json: bool) -> None:
    """Where the pictures of a region are, and that they are private."""
    if as_json:
        print_json({**_plain(asdict(outcome)), "note": PRIVATE})
        return
    _out.print(f"picture   {outcome.picture}  ({outcome.size} px, {_duration(outcome.seconds)})")
    if outcome.beside is not None:
        _out.print(f"beside    {outcome.beside}  (left: real, right: synthetic)")
    _out.print(f"settings  {outcome.record}")
    _out.print(f"[bold]{PRIVATE}[/bold]")


def wants_json(text: str) -> bool:
    """Whether ``--format`` asks for JSON.

    Raises:
        SettingsError: it is neither text nor json.
    """
    if text not in {"text", "json"}:
        raise SettingsError(f"--format {text} is not known", "use text or json")
    return text == "json"


def show_audit(outcome: AuditOutcome, as_json: bool) -> None:
    """The verdict of an audit and the figures of its tests."""
    if as_json:
        print_json({**outcome.values, "page": str(outcome.page)})
        return
    _out.print(f"[bold]{outcome.result.verdict}[/bold]: evidence, not a guarantee")
    table = Table("test", "outcome", "figures", "limits")
    for test in outcome.result.tests:
        figures, limits = (
            ", ".join(f"{name} {value:g}" for name, value in values.items())
            for values in (test.figures, test.limit)
        )
        table.add_row(test.name, "passed" if test.passed else "failed", figures, limits)
    _out.print(table)
    for sentence in outcome.weak:
        _out.print(sentence)
    _out.print(f"audit (private)  {outcome.page}")


def show_frontier(found: Frontier, as_json: bool) -> None:
    """The table of settings, and the one that is recommended."""
    if as_json:
        print_json({**_plain(asdict(found)), "files": [str(path) for path in found.files]})
        return
    table = Table("setting", "guidance", "tiles", "accuracy", "Fréchet", "residual", "verdict")
    for cell in found.cells:
        accuracy, residual = cell.balanced_accuracy, cell.residual
        table.add_row(
            cell.name,
            f"{cell.guidance_scale:g}" if cell.guidance_scale else "",
            str(cell.tiles),
            f"{accuracy.value:.3f} ({accuracy.low:.3f}-{accuracy.high:.3f})",
            f"{cell.frechet:.2f}",
            f"{residual.value:.3f} ({residual.low:.3f}-{residual.high:.3f})",
            cell.verdict,
        )
    _out.print(table)
    _out.print(
        f"{found.patients} patients in the cohort, {found.holdout_patients} set aside; audited "
        f"with {found.encoder}"
    )
    _out.print(found.sentence)
    for path in found.files:
        _out.print(f"wrote  {path}")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
