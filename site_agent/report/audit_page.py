"""The privacy officer's page: one HTML file that shows real tissue and stays at the site.

The verdict comes first, then each attack with a figure and its interval, then the pictures. It
loads nothing, runs no script, and needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.figures.intervals import IntervalPlot, interval_plot
from pixcell_share.privacy import ControlResult, NearCopySettings, PlantedKind
from pixcell_share.weights import ModelIdentity
from site_agent.report.audit_questions import GROUPS, QUESTIONS, UNSEEN
from site_agent.report.audit_verdict import breaches, power, sentence
from site_agent.report.audit_words import Words, words_of
from site_agent.report.charts import histogram
from site_agent.report.environment import write_page
from site_agent.report.images import Images
from site_agent.report.words import headline

_MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class ClosePair:
    """A synthetic tile beside the real tile that it comes closest to."""

    synthetic: Images
    real: Images
    slide_id: str
    """Slide of the real tile."""
    x: int
    y: int
    """Its top left in pixels of the finest level."""
    score: float
    """Correlation or cosine."""
    fate: str = "in the cohort"
    """``in the cohort``, ``in the cohort, drawn again`` or ``dropped``."""


@dataclass(frozen=True, kw_only=True)
class LinkedPatient:
    """What the attack on patients made of one of them. Private."""

    patient: str
    """As the slide table names them."""
    group: str
    """``in the cohort`` or ``set aside``."""
    score: float
    """The attack's score: higher where it rather believes that the patient is in the cohort."""
    p: float
    """Share of patients set aside who score as high; small where the attack makes its claim."""
    claimed: bool = False
    """Whether the attack claims that the patient is in the cohort."""


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """What one patient has taken part in, over all releases of the site. Private."""

    patient: str
    releases: int
    """Releases without differential privacy."""
    epsilon: float
    """Sum over the differentially private ones."""
    delta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Everything that the page shows.

    Iterables are gone through once by the page and once by `audit_json`: give some that can be
    gone through again where both are wanted. The page holds one picture at a time.
    """

    site: str
    """The name that the site chose for itself."""
    audit: AuditResult
    """The verdict and its tests; a test may be missing or have figures that are not known."""
    bundle: str | None
    """Digest of the signed bundle; None where nothing was signed."""
    mode: str
    """How the cohort is conditioned, in a sentence."""
    encoder: str
    """The encoder that conditioned, in which near copies were searched too."""
    second_encoder: str
    """The encoder that the attacks look through."""
    second_sentence: str
    """Why that one, and how strong it is."""
    control: ControlResult | None
    """What the planted copies showed, by kind."""
    limits: NearCopySettings
    """From which score a tile counts as a near copy."""
    weak: Sequence[str] = ()
    """What the audit could not have noticed, in sentences."""
    refused_in_pixels: Iterable[ClosePair] = ()
    """Tiles meant for release that reach the limit in pixels; a few dozen at most."""
    refused_in_encoder: Iterable[ClosePair] = ()
    """The same in the encoder."""
    closest_in_pixels: Iterable[ClosePair] = ()
    """Highest correlation first."""
    closest_in_encoder: Iterable[ClosePair] = ()
    """Highest cosine first."""
    pixel_scores: NDArray[np.floating]
    """(N,) correlation of every checked tile with its nearest real tile."""
    encoder_scores: NDArray[np.floating]
    """(N,) cosine of the same."""
    linked: Iterable[LinkedPatient] = ()
    """One row a patient, of both groups."""
    ledger: Iterable[LedgerRow] = ()
    """One row a patient of the cohort."""
    seed: int = 0
    """Which of the possible random choices this audit made."""
    software: Sequence[tuple[str, str]] = ()
    """Name and version of each program."""
    models: Sequence[ModelIdentity] = ()

    @property
    def planted(self) -> tuple[tuple[PlantedKind, str], ...]:
        """Every kind of planted tile, and what is demanded of it."""
        control = self.control
        if control is None:
            return ()
        blends = ((control.blends, "demanded"),) if control.blends else ()
        kinds = tuple((kind, "demanded") for kind in control.kinds)
        return (*kinds, *blends, *((kind, "reported") for kind in control.reported))

    @property
    def encoder_limit(self) -> float:
        """The cosine from which a tile was a near copy in this run."""
        return self.control.encoder_limit if self.control else self.limits.embedding_limit


def write_audit(path: Path, report: AuditReport) -> None:
    """Write the page to ``path``, in one step; pictures go through one at a time.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    audit = report.audit
    linked = sorted(report.linked, key=lambda row: (row.p, -row.score, row.patient))
    ledger = sorted(report.ledger, key=lambda row: (-row.epsilon, -row.releases, row.patient))
    write_page(
        path,
        "audit.html",
        report=report,
        headline=headline(audit),
        sentence=sentence(audit, signed=report.bundle is not None),
        power=power(audit),
        groups=list(_groups(audit)),
        missing=missing(audit),
        unseen=UNSEEN,
        in_pixels=histogram(report.pixel_scores, report.limits.pixel_limit),
        in_encoder=histogram(report.encoder_scores, report.encoder_limit),
        linked=linked[:_MOST_ROWS],
        linked_total=len(linked),
        ledger=ledger[:_MOST_ROWS],
        ledger_total=len(ledger),
    )


@dataclass(frozen=True)
class ShownTest:
    """A test as the page shows it."""

    test: AuditTest
    words: Words
    plot: IntervalPlot | None
    valid: bool
    """Whether the audit as a whole proves anything."""

    @property
    def state(self) -> str:
        """``passed``, ``failed``, ``reported`` (there is no limit), or ``void``."""
        if not self.test.passed:
            return "failed"
        if not self.valid:
            return "void"
        return "passed" if self.test.limit else "reported"

    @property
    def why(self) -> tuple[str, ...]:
        """Each limit that did not hold, in a sentence; empty where the test passed."""
        return () if self.test.passed else breaches(self.test)


def _groups(audit: AuditResult) -> Iterator[tuple[str, list[ShownTest]]]:
    """The tests under their headings; those that no heading names come last."""
    known = {test.name: test for test in audit.tests}
    named = {name for _, names in GROUPS for name in names}
    others = tuple(name for name in known if name not in named)
    for title, names in (*GROUPS, ("Further tests", others)):
        shown = [_shown(known[name], audit) for name in names if name in known]
        if shown:
            yield title, shown


def _shown(test: AuditTest, audit: AuditResult) -> ShownTest:
    words = words_of(test)
    plot = interval_plot(words.figure) if words.figure else None
    return ShownTest(test, words, plot, valid=audit.verdict != "INVALID")


def missing(audit: AuditResult) -> tuple[str, ...]:
    """Questions that this audit should have asked and did not."""
    known = {test.name: test for test in audit.tests}
    needless = {"membership"}  # only for weights that were trained at the site
    if "budget" in known and known["budget"].figures.get("private"):
        needless.add("retrieval")  # no real tile stands behind noised statistics
    asked = known.keys() | needless
    return tuple(question.title for name, question in QUESTIONS.items() if name not in asked)
