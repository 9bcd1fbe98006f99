"""The private report of a run: one HTML file that shows real tissue and stays at the site.

It loads nothing, runs no script, and needs no network: styles, charts and pictures are inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from pixcell_share.bundles.audit import AuditResult
from pixcell_share.files import atomic_path
from pixcell_share.privacy import ControlResult, NearCopySettings
from pixcell_share.weights import ModelIdentity
from site_agent.report.charts import StageTime, histogram, time_bars
from site_agent.report.images import Images, aligned_uri, thumbnail_uri, tile_uri
from site_agent.report.words import check_words, headline, quantity, sentence


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
    synthetic: int = 0
    """Synthetic tiles released."""
    dropped: int = 0
    """Draws given up because every attempt came too close to a real tile."""
    notes: tuple[str, ...] = ()
    reason: str | None = None
    """Why the slide was left out; None where it was used."""
    remedy: str = ""
    """What to do so that it can be used."""
    thumbnail: Images | None = None
    """(H, W, 3), with contours and grid drawn in."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A real tile and the synthetic tiles that were made from its embedding."""

    slide_id: str
    x: int
    y: int
    """Top left of the real tile in pixels of the finest level."""
    real: Images
    synthetic: tuple[Images, ...]
    """One per draw, in order."""


@dataclass(frozen=True, kw_only=True)
class ClosePair:
    """A synthetic tile beside the real tile that it comes closest to."""

    synthetic: Images
    real: Images
    slide_id: str
    """Slide of the real tile."""
    x: int
    y: int
    score: float
    """Correlation or cosine."""
    fate: str = "released"
    """``released``, ``drawn again`` or ``dropped``."""


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
    """Verdict of the privacy checks; None where they did not run, and nothing was signed."""
    control: ControlResult | None
    """What the planted copies showed."""
    limits: NearCopySettings
    """From which score a tile counts as a near copy."""
    encoder: str
    """The encoder in which tiles were compared."""
    real_tiles: int
    """Real tiles that every synthetic tile was compared with."""
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
    closest_in_pixels: Iterable[ClosePair]
    """Highest correlation first."""
    closest_in_encoder: Iterable[ClosePair]
    """Highest cosine first."""
    pixel_scores: NDArray[np.floating]
    """(N,) correlation of every checked tile with its nearest real tile."""
    encoder_scores: NDArray[np.floating]
    """(N,) cosine of the same."""
    times: Sequence[StageTime]


def write_report(path: Path, report: Report) -> None:
    """Write the report to ``path``, in one step; pictures go through one at a time.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    limits, control = report.limits, report.control
    encoder_limit = control.encoder_limit if control else limits.embedding_limit
    template = _environment().get_template("report.html")
    parts = template.generate(
        report=report,
        headline=headline(report.audit),
        sentence=sentence(report.audit, report.control, report.real_tiles),
        slides=[_encoded(slide) for slide in report.slides],
        in_pixels=histogram(report.pixel_scores, limits.pixel_limit),
        in_encoder=histogram(report.encoder_scores, encoder_limit),
        encoder_limit=encoder_limit,
        bars=time_bars(report.times),
    )
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(parts)


def _encoded(slide: SlideRow) -> tuple[SlideRow, str | None]:
    """The slide without its pixels, and its thumbnail as text: it is shown after the table."""
    uri = None if slide.thumbnail is None else thumbnail_uri(slide.thumbnail)
    return replace(slide, thumbnail=None), uri


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("site_agent", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(quantity=quantity, tile_uri=tile_uri)
    environment.globals.update(aligned_uri=aligned_uri, check_words=check_words)
    return environment
