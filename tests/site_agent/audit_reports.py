"""A report of an audit, with figures of every test, and how one breaks a limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixcell_share.bundles.audit import AuditResult, AuditTest
from pixcell_share.privacy import ControlResult, NearCopySettings, PlantedKind, Share
from pixcell_share.weights import ModelIdentity
from site_agent.report.audit_page import (
    AuditReport,
    ClosePair,
    LedgerRow,
    LinkedPatient,
    write_audit,
)
from tests.site_agent.pages import Page, tile


def spread(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


FIGURES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "planted_copies": (
        {
            "planted": 160, "caught": 160, "interval_low": 0.977, "interval_high": 1.0,
            "caught_by_encoder": 131, "blends": 32, "blends_caught": 31, "negatives": 40,
            "negatives_flagged": 0,
        },
        {"share": 0.99, "blend_share": 0.95, "negative_share": 0.01},
    ),
    "near_copies_in_pixels": (
        {"tiles": 4812, "near_copies": 0, "median": 0.213}, {"near_copies": 0, "score": 0.6},
    ),
    "near_copies_in_encoder": (
        {"tiles": 4812, "near_copies": 0, "median": 0.871}, {"near_copies": 0, "score": 0.9953},
    ),
    "second_encoder": (
        {"real_tiles": 6240, "dim": 304, "distinct": 0.9987, **spread("ceiling", 0.83, 0.71, 0.9)},
        {"distinct": 0.5},
    ),
    "retrieval": (
        {
            "tiles": 4812, "gallery": 6240, **spread("rank_1", 0.031, 0.022, 0.042),
            "control_1": 0.004, **spread("rank_5", 0.09, 0.07, 0.11), "control_5": 0.02,
            **spread("excess", 0.027, 0.018, 0.038),
        },
        {"excess": 0.1},
    ),
    "patient_linkage": (
        {
            "patients": 12, "holdout_patients": 3, "attack_rate": 0.0833, "attack_low": 0.015,
            "attack_high": 0.354, "control_rate": 0.0, "control_low": 0.0, "control_high": 0.56,
            **spread("residual", 0.083, 0.0, 0.35), **spread("auc", 0.54, 0.31, 0.75),
            "detectable": 0.62,
        },
        {"residual": 0.1, "detectable": 1.0},
    ),
    "patient_linkage_conditioning": (
        {
            "patients": 12, "holdout_patients": 3, "attack_rate": 0.1666, "attack_low": 0.047,
            "attack_high": 0.448, "control_rate": 0.0, "control_low": 0.0, "control_high": 0.56,
            **spread("residual", 0.09, 0.0, 0.4), **spread("auc", 0.57, 0.33, 0.77),
            "detectable": 0.62,
        },
        {"residual": 0.1, "detectable": 1.0},
    ),
    "data_copying": (spread("c_t", -1.84, -3.1, -0.6), {}),
    "authenticity": ({**spread("authentic", 0.71, 0.66, 0.76), "control": 0.88}, {}),
    "closest_record": (
        {**spread("nearer", 0.55, 0.51, 0.59), "ratio": 0.62, "ratio_control": 0.66}, {},
    ),
    "membership": (
        {
            "members": 2000, "nonmembers": 1800,
            **spread("loss_auc", 0.52, 0.49, 0.55), **spread("loss_tpr_1", 0.013, 0.008, 0.02),
            **spread("loss_tpr_01", 0.001, 0.0, 0.004), **spread("clid_auc", 0.56, 0.52, 0.6),
            **spread("clid_tpr_1", 0.031, 0.02, 0.046), **spread("clid_tpr_01", 0.004, 0.001, 0.01),
        },
        {"tpr_1": 0.05},
    ),
    "attributes": ({"files": 6, "findings": 0}, {"findings": 0}),
    "cohort": (
        {
            "patients": 12, "holdout_patients": 3, "classes": 3, "smallest_class": 4, "mix": 1,
            "tiles_per_patient": 180,
        },
        {"patients": 5, "class_patients": 3},
    ),
    "budget": (
        {
            "private": 0, "epsilon": 0.0, "delta": 0.0, "total_epsilon": 3.5,
            "total_delta": 1e-5, "releases": 1, "sequence": 4,
        },
        {"epsilon": 10.0, "delta": 1e-3, "releases": 3},
    ),
}  # fmt: skip

BROKEN = {
    "planted_copies": ({"caught": 100}, "62.5 %", "at least 99 %", "36.5 percentage points"),
    "near_copies_in_pixels": ({"near_copies": 3}, "in pixels: 3", "at most 0", "3 over"),
    "near_copies_in_encoder": ({"near_copies": 1}, "in the encoder: 1", "at most 0", "1 over"),
    "second_encoder": ({"distinct": 0.25}, "only 25 %", "at least 50 %", "25 percentage points"),
    "retrieval": ({"excess": 0.25}, "25 % of the synthetic", "at most 10 %", "15 percentage"),
    "patient_linkage": ({"residual": 0.3}, "30 % of the patients", "at most 10 %", "20 percent"),
    "patient_linkage_conditioning": (
        {"residual": 0.25},
        "the encoder that conditioned",
        "at most 10 %",
        "15 percentage",
    ),
    "membership": ({"clid_tpr_1": 0.2}, "20 % of the training", "at most 5 %", "15 percentage"),
    "attributes": ({"findings": 2}, "identify someone: 2", "at most 0", "2 over"),
    "cohort": ({"smallest_class": 1}, "smallest class: 1", "at least 3", "2 short"),
    "budget": ({"releases": 4}, "taken part in: 4", "at most 3", "1 over"),
}
"""For each test that has a limit: figures that break one, and what must be said of it."""


def test_of(name: str, *, broken: bool = False) -> AuditTest:
    figures, limit = FIGURES[name]
    changed = BROKEN[name][0] if broken else {}
    return AuditTest(name, not broken, {**figures, **changed}, limit)


test_of.__test__ = False


def audit(verdict: str = "PASS", *broken: str, without: tuple[str, ...] = ()) -> AuditResult:
    names = [name for name in FIGURES if name not in without]
    return AuditResult(verdict, tuple(test_of(name, broken=name in broken) for name in names))


PASS = audit()
REFUSE = audit("REFUSE", "near_copies_in_pixels", "patient_linkage")
INVALID = audit("INVALID", "planted_copies")


def pair(seed: int, score: float, **changed) -> ClosePair:
    values = {
        "synthetic": tile(seed), "real": tile(seed + 100), "slide_id": f"slide-{seed}", "x": seed,
        "y": 2048, "score": score,
    }  # fmt: skip
    return ClosePair(**{**values, **changed})


def report(**changed) -> AuditReport:
    kind = PlantedKind("exact", Share(32, 32), Share(30, 32))
    crop = PlantedKind("crop 75", Share(11, 32), Share(7, 32))
    values = {
        "site": "Example Hospital",
        "audit": PASS,
        "bundle": "ab" * 32,
        "mode": "Each tile was made from the embedding of one real tile of one patient.",
        "encoder": "nano",
        "second_encoder": "texture",
        "second_sentence": "It is a fixed texture descriptor.",
        "control": ControlResult(
            (kind,), 0.99, encoder_limit=0.995, examined=40, featureless=8, reported=(crop,)
        ),
        "limits": NearCopySettings(),
        "weak": ("Few patients were set aside.",),
        "refused_in_pixels": [pair(1, 0.97), pair(2, 0.91)],
        "closest_in_pixels": [pair(3, 0.55), pair(4, 0.41, fate="dropped")],
        "closest_in_encoder": [pair(5, 0.991)],
        "pixel_scores": np.array([0.2, 0.3, 0.55]),
        "encoder_scores": np.array([0.7, 0.8, 0.991]),
        "linked": [
            LinkedPatient(patient="case-1", group="in the cohort", score=1.5, p=0.25),
            LinkedPatient(patient="case-2", group="set aside", score=2.5, p=0.1, claimed=True),
        ],
        "ledger": [LedgerRow(patient="case-1", releases=2, epsilon=3.0, delta=1e-5)],
        "seed": 7,
        "software": [("torch", "2.15.0")],
        "models": [
            ModelIdentity("encoder", "nano", "owner/name", "abc", "Apache-2.0", False, "cd" * 32)
        ],
    }
    return AuditReport(**{**values, **changed})


def written(folder: Path, **changed) -> Page:
    write_audit(folder / "audit.html", report(**changed))
    page = Page((folder / "audit.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page
