"""What the page of a cohort shows of its audit: sentences, plots, and all figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub_server.printing import sentences
from pixcell_share.bundles import AuditResult, AuditTest
from pixcell_share.bundles._codec import AUDIT_EXTENSION
from pixcell_share.figures import Figure, IntervalPlot, Measured, interval_plot

_HEADLINES = {
    "PASS": "The cohort passed the audit of its site",
    "REFUSE": "The audit of the site refused the cohort",
    "INVALID": "The audit of the site proves nothing",
}


@dataclass(frozen=True)
class _Plotted:
    """A figure of an audit that is worth a plot."""

    test: str
    figure: str
    title: str
    limit: str = ""
    """The site's limit; empty where the figure is not judged."""
    control: str = ""
    """What it is compared with."""
    at_least: bool = False


_PLOTTED = (
    _Plotted(
        "patient_linkage", "residual", "Patient linkage, residual risk", "residual", "detectable"
    ),
    _Plotted("retrieval", "excess", "Retrieval of the own real tile, above chance", "excess"),
    _Plotted(
        "authenticity", "authentic", "Tiles that are no copy of their real one", at_least=True
    ),
)
_COMPARED = {"detectable": "what this audit would have noticed"}


@dataclass(frozen=True)
class PlotView:
    """One figure as a plot."""

    title: str
    plot: IntervalPlot
    failed: bool
    """Whether the test of the figure failed."""


@dataclass(frozen=True)
class AuditView:
    """An audit as it is shown."""

    verdict: str
    headline: str
    sentences: tuple[str, ...]
    plots: tuple[PlotView, ...]
    tests: tuple[AuditTest, ...]


def audit_view(statement: Mapping[str, Any]) -> AuditView:
    """The parts of an audit's statement, which the hub has verified."""
    audit = _read(statement["predicate"])
    return AuditView(
        verdict=audit.verdict,
        headline=_HEADLINES[audit.verdict],
        sentences=tuple(sentences(audit)),
        plots=tuple(plot for test in audit.tests for plot in _plots(test)),
        tests=audit.tests,
    )


def _read(predicate: Mapping[str, Any]) -> AuditResult:
    ours = predicate[AUDIT_EXTENSION]
    limits = predicate["configuration"][0]["annotations"]
    passed = predicate["passedTests"]
    return AuditResult(
        ours["verdict"],
        tuple(
            AuditTest(name, name in passed, ours["figures"][name], limits[name])
            for name in (*passed, *predicate["failedTests"])
        ),
    )


def _plots(test: AuditTest) -> list[PlotView]:
    return [
        PlotView(each.title, interval_plot(_figure(test, each)), not test.passed)
        for each in _PLOTTED
        if each.test == test.name and _is_measured(test, each)
    ]


def _is_measured(test: AuditTest, each: _Plotted) -> bool:
    """Whether the figure and its interval are there, and somebody was looked at."""
    names = (each.figure, f"{each.figure}_low", f"{each.figure}_high")
    return all(name in test.figures for name in names) and test.figures.get("patients") != 0


def _figure(test: AuditTest, each: _Plotted) -> Figure:
    found = test.figures
    main = Measured(
        "measured",
        found[each.figure],
        found[f"{each.figure}_low"],
        found[f"{each.figure}_high"],
    )
    compared = (
        (Measured(_COMPARED[each.control], found[each.control]),) if each.control in found else ()
    )
    return Figure(main, compared, test.limit.get(each.limit), each.at_least)
