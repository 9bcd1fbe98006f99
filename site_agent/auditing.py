"""`pixcell-site audit`: judge a run's cohort with other seeds, or tiles from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcell_share.bundles import AuditResult, SiteKey
from pixcell_share.files import atomic_write_text, canonical_json
from pixcell_share.privacy.gate import judge
from pixcell_share.progress import View
from site_agent.command import load_settings
from site_agent.given_cohort import given_sources
from site_agent.home import SiteHome
from site_agent.inputs import find_records
from site_agent.pipeline import Job, count_slides, count_tiles
from site_agent.report.audit_json import audit_json
from site_agent.report.audit_page import write_audit
from site_agent.report.describe import Findings
from site_agent.report.describe_audit import describe_audit
from site_agent.run_folder import RunFolder
from site_agent.steps.real_tiles import RealTiles

_REFUSED = 4


@dataclass(frozen=True)
class AuditOutcome:
    """What an audit came to."""

    result: AuditResult
    weak: tuple[str, ...]
    page: Path
    values: dict[str, Any]
    """As ``audit.json`` holds them."""

    @property
    def exit_code(self) -> int:
        """0 for PASS, else 4."""
        return 0 if self.result.verdict == "PASS" else _REFUSED


def audit_run(
    folder: Path, home: SiteHome, key: SiteKey, view: View, *, seed: int, synthetic: Path | None
) -> AuditOutcome:
    """Attack the cohort of a finished run again. Nothing is signed, and no budget is charged.

    Args:
        folder: the ``--out`` of the run.
        home: the site, for its limits.
        key: its key, which decides the groups.
        view: shows progress.
        seed: chooses other controls, samples and bootstrap draws; 0 is what the run itself used.
        synthetic: judge these tiles in place of the run's: a folder of pictures, or a bundle.

    Raises:
        WorkFolderError: the folder holds no run.
    """
    settings = load_settings(folder)
    records = find_records(settings)
    with RunFolder(settings).opened(key.key_id) as run:
        job = Job(run, home, key, view, records)
        states, sources = job.generated()
        if synthetic is not None:
            sources = given_sources(run, synthetic)
        real = RealTiles(run, records, states)
        try:
            gathered = job.gathered(states, sources, real, seed=seed)
            result = judge(gathered.evidence, job.config.limits)
            counts = {**count_slides(states), **count_tiles(gathered.checked, len(real))}
            findings = Findings(records, states, job.groups, gathered, counts)
            name = f"audit-seed-{seed}" if synthetic is None else f"audit-{synthetic.name}"
            page = folder / f"{name}.html"
            described = describe_audit(run, home, key, job.models, findings, result, None)
            values = audit_json(described)
            write_audit(page, described)
            atomic_write_text(page.with_suffix(".json"), canonical_json(values).decode() + "\n")
        finally:
            real.close()
    return AuditOutcome(result, gathered.weak, page, values)
