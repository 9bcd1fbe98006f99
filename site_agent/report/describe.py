"""What a run hands to its private report: counts, pictures of pairs, and where time went."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from PIL import Image

import pixcell_share
from pixcell_share.bundles import AuditResult
from pixcell_share.slides import SlideRecord
from site_agent.clock import load_times
from site_agent.evidence import Gathered
from site_agent.groups import Groups
from site_agent.home import SiteConfig
from site_agent.models import Models
from site_agent.report.charts import StageTime
from site_agent.report.gallery import Gallery
from site_agent.report.page import Balance, Report, SlideRow
from site_agent.run_folder import RunFolder, SlideState

_PACKAGES = ("torch", "diffusers", "timm", "openslide-python", "numpy")
_STAGES = ("tile", "read", "embed", "fingerprint", "generate", "check", "audit", "write")


@dataclass(frozen=True)
class Findings:
    """What the steps of a run came to."""

    records: Sequence[SlideRecord]
    states: Sequence[SlideState]
    groups: Groups
    gathered: Gathered
    counts: dict[str, int]


def describe_run(
    run: RunFolder,
    config: SiteConfig,
    models: Models,
    findings: Findings,
    result: AuditResult,
    digest: str | None,
) -> Report:
    """The report of a run; ``digest`` is that of the signed bundle, None where it was refused."""
    return Report(
        site=config.site,
        audit=result,
        bundle=digest,
        settings=_settings(run),
        software=software(),
        models=(*models.identities, models.audit_encoder.identity),
        balances=_balances(findings.counts),
        own_patients=not any(record.case_id for record in findings.records),
        slides=_slide_rows(run, findings),
        pairs=Gallery(run, findings.gathered).pairs(),
        times=[
            StageTime(kind, work.seconds, work.units, "slides" if kind == "tile" else "tiles")
            for kind, work in sorted(
                load_times(run.all_times()).items(), key=lambda entry: _STAGES.index(entry[0])
            )
        ],
        audit_page=run.audit_report.name,
    )


def _settings(run: RunFolder) -> list[tuple[str, str]]:
    shown = []
    for name, value in run.settings.identity().items():
        if isinstance(value, dict):
            shown += [(f"{name}: {inner}", str(entry)) for inner, entry in value.items()]
        else:
            shown.append((name, "default" if value is None else str(value)))
    return shown


def software() -> list[tuple[str, str]]:
    """Name and version of each program that had a part."""
    return [
        ("pixcell-share", pixcell_share.__version__),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in _PACKAGES),
    ]


def _balances(counts: dict[str, int]) -> list[Balance]:
    return [
        Balance(
            name="slides found",
            total=counts["slides"],
            parts=(("used", counts["slides_used"]), ("left out", counts["slides_left_out"])),
        ),
        Balance(
            name="real tiles found",
            total=counts["tiles_found"],
            parts=(("embedded", counts["tiles_embedded"]),),
        ),
        Balance(
            name="synthetic tiles generated",
            total=counts["tiles_generated"],
            parts=(("released", counts["tiles_released"]), ("dropped", counts["tiles_dropped"])),
        ),
    ]


def _slide_rows(run: RunFolder, findings: Findings) -> Iterator[SlideRow]:
    made: dict[str, list[int]] = {}
    for block, check in findings.gathered.checked:
        if block.source.slide:
            released, dropped = made.setdefault(block.name, [0, 0])
            kept = int(check.accepted.sum())
            made[block.name] = [released + kept, dropped + len(check.accepted) - kept]
    for record, state in zip(findings.records, findings.states, strict=True):
        mine: Sequence[int | None] = made.get(record.slide_id, (0, 0) if made else (None, None))
        thumbnail = run.thumbnail(record.slide_id)
        reason = state.reason or {}
        yield SlideRow(
            slide_id=record.slide_id,
            case_id=record.case_id,
            label=record.label,
            mpp=state.mpp or None,
            mpp_source=state.mpp_source,
            width=state.width,
            height=state.height,
            tiles=state.tiles,
            set_aside=not findings.groups.conditions(record),
            synthetic=mine[0],
            dropped=mine[1],
            notes=state.notes,
            reason=reason.get("cause"),
            remedy=reason.get("remedy", ""),
            thumbnail=np.asarray(Image.open(thumbnail)) if thumbnail.exists() else None,
        )
