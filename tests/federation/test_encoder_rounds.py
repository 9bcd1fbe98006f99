"""Encoders and probes on a site's own tiles: what leaves the site, and what is refused."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixcell_share.bundles import SiteKey
from pixcell_share.federation import Answer, Outcome, Reason, Request, RoundKind, Sealed
from pixcell_share.federation.records import arrays_digest
from pixcell_share.ssl import ARCHITECTURES
from pixcell_share.ssl.vit import VisionTransformer
from site_agent.federation.answering import Reply, answer
from site_agent.home import SiteHome
from tests.ssl.conftest import drawn_tiles

PATIENTS, TILES = 36, 6
CLASSES = "coarse,fine,stripes"


def policy(tiles: Path, **more: Any) -> str:
    entries = {
        "rounds": ["encoder", "probe"], "tiles": str(tiles), "table": str(tiles / "tiles.csv"),
        "patients": 5, "without_dp": True, "device": "cpu", **more,
    }  # fmt: skip
    lines = [f"{name} = {_toml(value)}" for name, value in entries.items()]
    return "\n".join(["[federation]", *lines, ""])


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled tiles of patients, of which each has one class."""
    folder = tmp_path_factory.mktemp("own") / "tiles"
    folder.mkdir()
    pictures, kinds = drawn_tiles(PATIENTS * TILES, seed=3)
    names = ("fine", "coarse", "stripes")
    rows = []
    for number, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        name = f"{number:03d}.png"
        Image.fromarray(picture).resize((256, 256)).save(folder / name)
        patient = 3 * (number // 3 % (PATIENTS // 3)) + kind
        rows.append([name, f"p{patient:02d}", names[kind]])
    with (folder / "tiles.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "case_id", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def encoder() -> dict[str, np.ndarray]:
    """A random start, which tells these patterns apart somewhat."""
    torch.manual_seed(0)
    state = VisionTransformer(ARCHITECTURES["tiny"], layer_scale=0.1).state_dict()
    return {name: value.numpy() for name, value in state.items()}


@dataclass
class Asked:
    """A hub that asks one site."""

    home: SiteHome
    hub: SiteKey
    round: str = field(default_factory=lambda: secrets.token_hex(16))

    def ask(
        self, kind: RoundKind, ask: dict[str, Any], arrays: dict[str, np.ndarray], step: int = 0
    ) -> tuple[Answer, Reply]:
        request = Request(self.round, kind, ask, step, arrays_digest(arrays))
        sealed = Sealed.seal(request.document(), "request", self.hub)
        reply = answer(self.home, self.hub.key_id, kind, sealed, arrays)
        site = self.home.load_key().public
        return Answer.of(reply.sealed.open("answer", site.key_id)), reply


MakeSite = Callable[..., Asked]


@pytest.fixture
def site(tmp_path: Path, tiles: Path) -> MakeSite:
    def make(**more: Any) -> Asked:
        home = SiteHome(tmp_path / secrets.token_hex(4))
        home.initialise("hospital-a")
        text = home.config_file.read_text()
        home.config_file.write_text(text + "\n" + policy(tiles, **more))
        return Asked(home, SiteKey.create(home.folder / "hub.key"))

    return make


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
    assert losses[0] == pytest.approx(np.log(3), abs=2e-3) and losses == sorted(losses)[::-1]
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
