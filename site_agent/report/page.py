"""The private report of a run: slides, counts, times and pictures, with the verdict in a sentence.

One HTML file that shows real tissue and stays at the site; what the verdict rests on is on the
privacy officer's page (`audit_page`).

It loads nothing, runs no script, and needs no network: styles, charts and pictures are inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixcell_share.bundles.audit import AuditResult
from pixcell_share.weights import ModelIdentity
from site_agent.report.audit_verdict import sentence
from site_agent.report.charts import StageTime, time_bars
from site_agent.report.environment import write_page
from site_agent.report.images import Images, thumbnail_uri
from site_agent.report.words import headline

_NOT_AUDITED = "The audit did not run. Nothing was signed and nothing may leave the site."


@dataclass(frozen=True, kw_only=True)
class SlideRow:
    """What became of one slide."""

    slide_id: str
    case_id: str | None
    """The patient, as the slide table names them."""
    label: str | None
    mpp: float | None = None
    """µm/px of the file's finest level."""
    mpp_source: str = ""
    """Where that came from: the file, the table or the option."""
    width: int = 0
    """Pixels of the finest level."""
    height: int = 0
    tiles: int = 0
    """Real tiles found."""
    synthetic: int | None = 0
    """Synthetic tiles meant for release; None where they descend from many slides together."""
    dropped: int | None = 0
    """Draws given up because every attempt came too close to a real tile."""
    set_aside: bool = False
    """Whether the patient is in the control group and conditioned nothing."""
    notes: tuple[str, ...] = ()
    reason: str | None = None
    """Why the slide was left out; None where it was used."""
    remedy: str = ""
    """What to do so that it can be used."""
    thumbnail: Images | None = None
    """(H, W, 3), with contours and grid drawn in."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Real tiles and the synthetic tiles that were made from their embeddings."""

    caption: str
    """Where the real tiles lie, or what stood for them."""
    real: tuple[Images, ...]
    """The tile, or several where patients were mixed; none with noised statistics of a class."""
    synthetic: tuple[Images, ...]
    """One per draw, in order."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A total and the parts that must make it up."""

    name: str
    """What is counted, such as ``slides found``."""
    total: int
    parts: tuple[tuple[str, int], ...]

    @property
    def holds(self) -> bool:
        """Whether the parts add up."""
        return self.total == sum(count for _, count in self.parts)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the report shows. Iterables are read once, one picture at a time."""

    site: str
    """The name that the site chose for itself."""
    audit: AuditResult | None
    """The verdict; None where the audit did not run, and nothing was signed."""
    bundle: str | None
    """Digest of the signed bundle; None where nothing was signed."""
    settings: Sequence[tuple[str, str]]
    """Name and value of each setting, in order."""
    software: Sequence[tuple[str, str]]
    """Name and version of each program."""
    models: Sequence[ModelIdentity]
    balances: Sequence[Balance]
    own_patients: bool
    """Whether slides count as patients of their own, because no table said otherwise."""
    slides: Iterable[SlideRow]
    pairs: Iterable[Pair]
    """About two dozen."""
    times: Sequence[StageTime]
    audit_page: str = "audit.html"
    """The privacy officer's page, beside this one."""


def write_report(path: Path, report: Report) -> None:
    """Write the report to ``path``, in one step; pictures go through one at a time.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    audit = report.audit
    write_page(
        path,
        "report.html",
        report=report,
        headline=headline(audit),
        sentence=sentence(audit, signed=report.bundle is not None) if audit else _NOT_AUDITED,
        slides=[_encoded(slide) for slide in report.slides],
        bars=time_bars(report.times),
    )


def _encoded(slide: SlideRow) -> tuple[SlideRow, str | None]:
    """The slide without its pixels, and its thumbnail as text: it is shown after the table."""
    uri = None if slide.thumbnail is None else thumbnail_uri(slide.thumbnail)
    return replace(slide, thumbnail=None), uri
