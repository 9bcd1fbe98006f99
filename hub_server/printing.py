"""What `pixcell-hub` prints, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from pixcell_share import console
from pixcell_share.bundles import AuditResult, AuditTest, Requirement, VerifiedBundle


def show_verified(
    bundle: VerifiedBundle, requirements: Sequence[Requirement], as_json: bool
) -> None:
    """An accepted bundle: its verdict, what that rests on, and then who, how many, made how."""
    if as_json:
        console.print_json(describe(bundle, requirements))
        return
    manifest, out = bundle.manifest, console.output()
    cohort = manifest.cohort
    out.print(f"[bold green]accepted[/]  {escape(cohort.site)}")
    out.print(f"verdict   {bundle.audit.verdict}: evidence, not a guarantee")
    for sentence in sentences(bundle.audit):
        out.print(sentence)
    for requirement in requirements:
        out.print(f"required  {requirement}: met")
    out.print(f"key       {bundle.key.key_id}")
    out.print(f"bundle    {bundle.digest}")
    out.print(
        f"tiles     {manifest.count} of {cohort.tile_px} px at {cohort.mpp} µm/px "
        f"in {len(manifest.shards)} shard{'s' if len(manifest.shards) > 1 else ''}"
    )
    for table in (_tests(bundle), _classes(bundle), _models(bundle)):
        out.print(table)
    if cohort.noncommercial:
        out.print("No commercial use: the terms of the weights carry over to the tiles.")


def sentences(audit: AuditResult) -> list[str]:
    """The main figures in words; none where the audit does not state them."""
    figures = {test.name: test.figures for test in audit.tests}
    linked, spent = figures.get("patient_linkage", {}), figures.get("budget", {})
    said = []
    if linked.get("patients") == 0:
        said.append("Patient linkage: no patient could be attacked, so nothing is known of it.")
    elif {"residual", "residual_low", "residual_high", "detectable"} <= linked.keys():
        said.append(
            f"Patient linkage: residual risk {linked['residual']:.3f} (95 % interval "
            f"{linked['residual_low']:.3f} to {linked['residual_high']:.3f}); this audit would "
            f"have noticed a residual above {linked['detectable']:.3f}."
        )
    if spent.get("private") == 1 and {"epsilon", "delta"} <= spent.keys():
        said.append(
            f"Differentially private conditions: a patient of this cohort has spent epsilon "
            f"{spent['epsilon']:g}, delta {spent['delta']:g} at most, over all releases."
        )
    return said


def describe(bundle: VerifiedBundle, requirements: Sequence[Requirement] = ()) -> dict[str, Any]:
    """An accepted bundle as plain values."""
    manifest, cohort = bundle.manifest, bundle.manifest.cohort
    return {
        "accepted": True,
        "bundle": bundle.digest,
        "site": cohort.site,
        "key_id": bundle.key.key_id,
        "tiles": manifest.count,
        "counts": manifest.counts,
        "tile_px": cohort.tile_px,
        "mpp": cohort.mpp,
        "shards": len(manifest.shards),
        "models": [asdict(model) for model in cohort.models],
        "noncommercial": cohort.noncommercial,
        "generation": asdict(cohort.generation),
        "audit": {
            "verdict": bundle.audit.verdict,
            "tests": [asdict(test) for test in bundle.audit.tests],
        },
        "required": [str(requirement) for requirement in requirements],
        "software": manifest.software,
        "exit_code": 0,
    }


def _classes(bundle: VerifiedBundle) -> Table:
    table = _table("class", "tiles")
    for name, count in bundle.manifest.counts.items():
        table.add_row(escape(name), str(count))
    return table


def _models(bundle: VerifiedBundle) -> Table:
    table = _table("role", "model", "source", "revision", "licence")
    for model in bundle.manifest.cohort.models:
        terms = model.licence + (" (no commercial use)" if model.noncommercial else "")
        cells = (model.role, model.name, model.source, model.revision[:12], terms)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _tests(bundle: VerifiedBundle) -> Table:
    table = _table("check", "outcome", "figures", "limits")
    for test in bundle.audit.tests:
        table.add_row(test.name, "passed" if test.passed else "failed", *_numbers(test))
    return table


def _numbers(test: AuditTest) -> tuple[str, str]:
    figures, limits = (
        ", ".join(f"{name} {value:g}" for name, value in values.items())
        for values in (test.figures, test.limit)
    )
    return figures, limits


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
