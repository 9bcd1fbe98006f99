"""Encoders and probes on a site's own tiles: what leaves the site, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pixcell_share.federation import Outcome, Reason, RoundKind
from pixcell_share.federation.records import arrays_digest
from pixcell_share.ssl import ARCHITECTURES
from pixcell_share.ssl.vit import VisionTransformer
from tests.federation.own_tiles_site import PATIENTS, MakeSite, site, tiles

__all__ = ["site", "tiles"]  # fixtures

CLASSES = "coarse,fine,stripes"


@pytest.fixture(scope="module")
def encoder() -> dict[str, np.ndarray]:
    """A random start, which tells these patterns apart somewhat."""
    torch.manual_seed(0)
    state = VisionTransformer(ARCHITECTURES["tiny"], layer_scale=0.1).state_dict()
    return {name: value.numpy() for name, value in state.items()}


def asked(encoder: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    return {"encoder_sha256": arrays_digest(encoder), "classes": CLASSES, **more}


def named(encoder: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"encoder.{name}": value for name, value in encoder.items()}


def test_figures_leave_the_site_and_nothing_else(
    site: MakeSite, encoder: dict[str, np.ndarray]
) -> None:
    hub = site()
    said, reply = hub.ask(RoundKind.ENCODER, asked(encoder), named(encoder))
    assert said.outcome is Outcome.DONE and not reply.arrays
    assert set(said.result) == {"balanced_accuracy", "classes", "chance", "patients"}
    assert set(said.result["balanced_accuracy"]) == {"knn", "linear_probing"}
    figure = said.result["balanced_accuracy"]["linear_probing"]
    assert 1 / 3 < figure["value"] <= 1 and figure["low"] <= figure["value"] <= figure["high"]
    payload = reply.sealed.payload.decode()
    assert not any(word in payload for word in (str(hub.home.folder), "p00", "tiles.csv"))


def test_a_common_probe_gets_better_step_by_step(
    site: MakeSite, encoder: dict[str, np.ndarray]
) -> None:
    hub = site()
    probe = {"weight": np.zeros((3, 192), np.float32), "bias": np.zeros(3, np.float32)}
    losses = []
    for step in range(3):
        arrays = {f"probe.{name}": value for name, value in probe.items()}
        if step == 0:
            arrays |= named(encoder)  # the site keeps its embeddings for the other steps
        said, reply = hub.ask(RoundKind.PROBE, asked(encoder, steps=20), arrays, step)
        assert said.outcome is Outcome.DONE, said.reason
        assert said.arrays_sha256 == arrays_digest(reply.arrays)
        probe = {name.removeprefix("probe."): value for name, value in reply.arrays.items()}
        losses.append(said.result["loss"])
    assert losses[0] == pytest.approx(np.log(3), abs=2e-3)
    assert max(losses[1:]) < losses[0]  # the patients who are kept back differ with the site's key
    assert said.result["patients"] < PATIENTS


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (RoundKind.ENCODER, {"rounds": ["cohort"]}, Reason.NOT_ALLOWED),
        (RoundKind.PROBE, {"without_dp": False}, Reason.NO_PRIVACY),
        (RoundKind.ENCODER, {"patients": 13}, Reason.TOO_FEW),
    ],
)
def test_the_sites_policy_refuses(
    site: MakeSite, encoder: dict[str, np.ndarray], kind: RoundKind, changes: dict[str, Any],
    reason: Reason,
) -> None:  # fmt: skip
    said, _ = site(**changes).ask(kind, asked(encoder), named(encoder))
    assert (said.outcome, said.reason, said.result) == (Outcome.REFUSED, reason, {})


@pytest.mark.parametrize(
    ("ask", "spoil", "reason"),
    [
        ({"architecture": "resnet50"}, None, Reason.MODEL),
        ({"architecture": "dinov2_vits14", "input_px": 56}, None, Reason.MALFORMED),
        ({"input_px": 63}, None, Reason.MALFORMED),
        ({"tasks": "knn,exec"}, None, Reason.MALFORMED),
        ({"classes": "fine,coarse,lumina"}, None, Reason.TOO_FEW),
        ({"classes": "fine,fine"}, None, Reason.MALFORMED),
        ({"tiles_per_patient": 0}, None, Reason.MALFORMED),
        ({"more": "x"}, None, Reason.MALFORMED),
        ({"encoder_sha256": "0" * 64}, None, Reason.MALFORMED),
        ({}, "nan", Reason.MALFORMED),
        ({}, "type", Reason.MALFORMED),
        ({}, "none", Reason.WEIGHTS),
    ],
)
def test_what_does_not_fit_is_refused_by_a_code(
    site: MakeSite, encoder: dict[str, np.ndarray], ask: dict[str, Any], spoil: str | None,
    reason: Reason,
) -> None:  # fmt: skip
    weights = dict(encoder)
    if spoil == "nan":
        weights["norm.bias"] = np.full(192, np.nan, np.float32)
    if spoil == "type":
        weights["norm.bias"] = np.zeros(192, np.float64)
    wanted = asked(weights) | ask
    said, _ = site().ask(RoundKind.ENCODER, wanted, {} if spoil == "none" else named(weights))
    assert (said.outcome, said.reason, said.result) == (Outcome.REFUSED, reason, {})


def test_a_probe_of_another_form_is_refused(site: MakeSite, encoder: dict[str, np.ndarray]) -> None:
    arrays = named(encoder) | {"probe.weight": np.zeros((2, 192), np.float32)}
    said, _ = site().ask(RoundKind.PROBE, asked(encoder), arrays)
    assert (said.outcome, said.reason) == (Outcome.REFUSED, Reason.MALFORMED)
