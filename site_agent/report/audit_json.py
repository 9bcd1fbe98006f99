"""The audit for machines: what the privacy officer's page says, without its pictures.

Private like the page: it names slides and patients. Its fields:

- ``site``, ``verdict`` (``PASS``, ``REFUSE``, ``INVALID``), ``exit_code`` (0 for ``PASS``, else
  4), ``bundle`` (SHA-256 of the signed bundle, or null), ``sentence`` and ``reasons``;
- ``mode``, ``encoder``, ``second_encoder``, ``seed``: what was audited, and with what;
- ``tests``: ``name``, ``passed``, ``figures`` and ``limit`` of each, as they are signed;
- ``missing``: questions that were not asked; ``weaknesses``: sentences on the audit's power;
- ``closest_pairs`` and ``refused_tiles``: under ``pixels`` and ``encoder``, ``slide``, ``x``,
  ``y`` (of the real tile, in pixels of the finest level), ``score`` and ``fate``;
- ``linked_patients``: ``patient``, ``group``, ``score``, ``p``, ``claimed``; ``ledger``:
  ``patient``, ``releases``, ``epsilon``, ``delta``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pixcell_share.bundles.audit import AuditTest
from site_agent.report.audit_page import AuditReport, ClosePair, missing
from site_agent.report.audit_verdict import power, reasons, sentence

_PASSED, _REFUSED = 0, 4


def audit_json(report: AuditReport) -> dict[str, Any]:
    """The report as values that JSON knows; numbers are finite.

    Raises:
        ValueError: a score is not finite.
    """
    audit = report.audit
    return {
        "site": report.site,
        "verdict": audit.verdict,
        "exit_code": _PASSED if audit.verdict == "PASS" else _REFUSED,
        "bundle": report.bundle,
        "sentence": sentence(audit, signed=report.bundle is not None),
        "reasons": list(reasons(audit)),
        "mode": report.mode,
        "encoder": report.encoder,
        "second_encoder": report.second_encoder,
        "seed": report.seed,
        "tests": [_test(test) for test in audit.tests],
        "missing": list(missing(audit)),
        "weaknesses": [power(audit), *report.weak],
        "closest_pairs": {
            "pixels": _pairs(report.closest_in_pixels),
            "encoder": _pairs(report.closest_in_encoder),
        },
        "refused_tiles": {
            "pixels": _pairs(report.refused_in_pixels),
            "encoder": _pairs(report.refused_in_encoder),
        },
        "linked_patients": [_finite(asdict(row)) for row in report.linked],
        "ledger": [_finite(asdict(row)) for row in report.ledger],
    }


def _test(test: AuditTest) -> dict[str, Any]:
    return {
        "name": test.name,
        "passed": test.passed,
        "figures": dict(test.figures),
        "limit": dict(test.limit),
    }


def _pairs(pairs: Iterable[ClosePair]) -> list[dict[str, Any]]:
    return [
        _finite(
            {"slide": pair.slide_id, "x": pair.x, "y": pair.y,
             "score": pair.score, "fate": pair.fate}
        )
        for pair in pairs
    ]  # fmt: skip


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is not finite")
    return values
