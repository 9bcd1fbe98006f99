"""The gate: one verdict from all evidence, by limits that the site sets before.

Every test is held against its limit by its *estimate*. The interval beside it says how far the
estimate can be trusted, and ``detectable`` what the audit would have noticed: a hub may demand
more of both than the site does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.privacy.authenticity import Authenticity
from pixcell_share.privacy.closest_record import ClosestRecord
from pixcell_share.privacy.control import ControlResult
from pixcell_share.privacy.copy_tests import Scores, nearest_test, planted_test
from pixcell_share.privacy.data_copying import DataCopying
from pixcell_share.privacy.encoder_control import DISTINCT, EncoderControl
from pixcell_share.privacy.gate_limits import GateLimits
from pixcell_share.privacy.intervals import Estimate, Share
from pixcell_share.privacy.linkage import Linkage
from pixcell_share.privacy.membership import Membership
from pixcell_share.privacy.near_copy_settings import NearCopySettings
from pixcell_share.privacy.retrieval import Retrieval


@dataclass(frozen=True)
class CohortFacts:
    """What the audit states about the cohort as a whole."""

    patients: int
    holdout_patients: int
    classes: int
    smallest_class: int
    """Patients of the smallest class."""
    mix: int
    """Patients behind each synthetic tile; 0 where noised statistics of a class are."""
    tiles_per_patient: int
    """Real tiles of the patient who gave the most."""


@dataclass(frozen=True)
class Evidence:
    """All that the audit measured on a cohort before it is written."""

    near_copies: NearCopySettings
    pixel_ncc: Scores
    """(N,) of every tile to be released: `Nearest.pixel_ncc`."""
    embedding_similarity: Scores
    """(N,) `Nearest.embedding_similarity`."""
    control: ControlResult
    facts: CohortFacts
    encoder_control: EncoderControl | None
    """None where no control group could be formed: the audit is then void."""
    retrieval: Retrieval | None
    linkage: Linkage | None
    conditioned_linkage: Linkage | None
    """The same through the encoder that conditioned: an attacker may use that one too."""
    copying: DataCopying | None
    authenticity: Authenticity | None
    closest: ClosestRecord | None
    membership: Membership | None
    """None where the weights were not trained on the site's tiles."""


def judge(evidence: Evidence, limits: GateLimits, last: Sequence[AuditTest] = ()) -> AuditResult:
    """The verdict.

    Args:
        evidence: what was measured.
        limits: the site's.
        last: tests of the written bundle: attributes and budget.

    Returns:
        ``INVALID`` where planted copies were missed, the second encoder sees nothing, or there is
        no control group; else ``REFUSE`` where a test failed; else ``PASS``. The figures are
        public: counts, rates and intervals, never a figure of one patient or one tile.
    """
    tests = (
        *_copies(evidence),
        *_attacks(evidence, limits),
        _cohort(evidence.facts, limits),
        *last,
    )
    seeing = evidence.encoder_control is not None and evidence.encoder_control.valid
    if not (evidence.control.valid and seeing and evidence.linkage):
        return AuditResult("INVALID", tests)
    return AuditResult("PASS" if all(test.passed for test in tests) else "REFUSE", tests)


def _copies(evidence: Evidence) -> tuple[AuditTest, ...]:
    limits = evidence.near_copies
    return (
        planted_test(evidence.control),
        nearest_test("near_copies_in_pixels", evidence.pixel_ncc, limits.pixel_limit),
        nearest_test(
            "near_copies_in_encoder", evidence.embedding_similarity, evidence.control.encoder_limit
        ),
    )


def _attacks(evidence: Evidence, limits: GateLimits) -> list[AuditTest]:
    found = [
        evidence.encoder_control and _second_encoder(evidence.encoder_control),
        evidence.retrieval and _retrieval(evidence.retrieval, limits.retrieval_excess),
        evidence.linkage and _linkage("patient_linkage", evidence.linkage, limits),
        evidence.conditioned_linkage
        and _linkage("patient_linkage_conditioning", evidence.conditioned_linkage, limits),
        evidence.copying and _copying(evidence.copying, limits.c_t),
        evidence.authenticity and _authenticity(evidence.authenticity),
        evidence.closest and _closest(evidence.closest, limits.nearer),
        evidence.membership and _membership(evidence.membership, limits.membership_tpr),
    ]
    return [test for test in found if test]


def _cohort(facts: CohortFacts, limits: GateLimits) -> AuditTest:
    return AuditTest(
        name="cohort",
        passed=facts.patients >= limits.patients and facts.smallest_class >= limits.class_patients,
        figures=vars(facts).copy(),
        limit={"patients": limits.patients, "class_patients": limits.class_patients},
    )


def _spread(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate under three names, rounded: equal input gives equal bytes."""
    return {
        name: round(float(estimate.value), 6),
        f"{name}_low": round(float(estimate.low), 6),
        f"{name}_high": round(float(estimate.high), 6),
    }


def _rounded(value: float) -> float:
    return round(float(value), 6)


def _second_encoder(control: EncoderControl) -> AuditTest:
    return AuditTest(
        name="second_encoder",
        passed=control.valid,
        figures={
            "real_tiles": control.real_tiles,
            "dim": control.dim,
            "distinct": _rounded(control.distinct.value),
            **_spread("ceiling", control.ceiling.residual),
        },
        limit={"distinct": DISTINCT},
    )


def _retrieval(found: Retrieval, limit: float) -> AuditTest:
    return AuditTest(
        name="retrieval",
        passed=found.excess.value <= limit,
        figures={
            "tiles": found.tiles,
            "gallery": found.gallery,
            **_spread("rank_1", found.rank_1),
            "control_1": _rounded(found.control_1),
            **_spread("rank_5", found.rank_5),
            "control_5": _rounded(found.control_5),
            **_spread("excess", found.excess),
            **_spread("patient_1", found.patient_1),
        },
        limit={"excess": limit},
    )


def _linkage(name: str, found: Linkage, limits: GateLimits) -> AuditTest:
    return AuditTest(
        name=name,
        passed=found.residual.value <= limits.linkage_residual
        and found.detectable <= limits.linkage_detectable,
        figures={
            "patients": found.attack.total,
            "holdout_patients": found.control.total,
            "tiles_held": found.tiles_held,
            **_share("attack", found.attack),
            **_share("control", found.control),
            **_spread("residual", found.residual),
            **_spread("auc", found.auc),
            "detectable": _rounded(found.detectable),
        },
        limit={"residual": limits.linkage_residual, "detectable": limits.linkage_detectable},
    )


def _share(name: str, share: Share) -> dict[str, float]:
    low, high = share.interval
    return {
        f"{name}_rate": _rounded(share.value),
        f"{name}_low": _rounded(low),
        f"{name}_high": _rounded(high),
    }


def _copying(found: DataCopying, limit: float | None) -> AuditTest:
    return AuditTest(
        name="data_copying",
        passed=limit is None or found.c_t.value >= limit,
        figures={**_spread("c_t", found.c_t), "cells": found.cells},
        limit={} if limit is None else {"c_t": limit},
    )


def _authenticity(found: Authenticity) -> AuditTest:
    return AuditTest(
        name="authenticity",
        passed=True,
        figures={
            **_spread("authentic", found.authentic),
            **_spread("control", found.control),
        },
    )


def _closest(found: ClosestRecord, limit: float | None) -> AuditTest:
    return AuditTest(
        name="closest_record",
        passed=limit is None or found.nearer.value <= limit,
        figures={
            **_spread("nearer", found.nearer),
            "ratio": _rounded(found.ratio),
            "ratio_control": _rounded(found.ratio_control),
        },
        limit={} if limit is None else {"nearer": limit},
    )


def _membership(found: Membership, limit: float) -> AuditTest:
    worst = max(found.loss.tpr_1.value, found.clid.tpr_1.value)
    figures = {name: _rounded(value) for name, value in found.figures().items()}
    return AuditTest(
        name="membership", passed=worst <= limit, figures=figures, limit={"tpr_1": limit}
    )
