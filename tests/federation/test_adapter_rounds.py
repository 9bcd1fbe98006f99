"""A private training in rounds at one site: charged once, signed, and refused where it must be."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixcell_share.federation import Outcome, Reason, RoundKind
from pixcell_share.federation.adapter_asks import LORA
from pixcell_share.training.base import Base
from pixcell_share.training.private import adapter_bytes, adapter_digest, check_envelope
from tests.federation.own_tiles_site import MakeSite, draw_own_tiles, site

__all__ = ["site"]  # a fixture
PATIENTS = 12


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_own_tiles(tmp_path_factory.mktemp("few") / "tiles", PATIENTS, 2)


@pytest.fixture(scope="module")
def base() -> str:
    return Base.load("nano").sha256


def asked(base: str, **more: Any) -> dict[str, Any]:
    return {
        "rounds": 2, "base_sha256": base, "epsilon": 8.0, "delta": 1e-3,
        "patients_per_step": 4, "tiles_per_patient": 2, "steps": 2, **more,
    }  # fmt: skip


@pytest.mark.slow
def test_two_rounds_are_charged_once_and_signed(site: MakeSite, base: str) -> None:
    hub = site()
    start: dict[str, np.ndarray] = {}
    for number in (1, 2):
        said, reply = hub.ask(RoundKind.ADAPTER, asked(base), start, number - 1)
        assert said.outcome is Outcome.DONE, said.reason
        assert list(said.result) == ["record"]
        lora = {name.removeprefix(LORA): value for name, value in reply.arrays.items()}
        public = hub.home.load_key().public
        signed = check_envelope(base64.b64decode(said.result["record"]), [public], lora)
        assert (signed.round, signed.training, signed.record.steps) == (number, hub.round, number)
        assert signed.record.unit == "patient" and 0 < signed.record.epsilon <= 8
        wire = sum(value.nbytes for value in reply.arrays.values())
        assert wire == adapter_bytes(lora)  # nothing but the LoRA travels
        if start:
            before = {name.removeprefix(LORA): value for name, value in start.items()}
            assert signed.start == adapter_digest(before)
        start = dict(reply.arrays)
    ledger = hub.home.ledger(hub.home.load_key()).verify()
    assert len(ledger.releases) == 1
    assert len(ledger.releases[0].exposures) == PATIENTS
    # Another training, for which nothing is left of the ten that site.toml allows.
    other = replace(hub, round="0" * 32)
    said, reply = other.ask(RoundKind.ADAPTER, asked(base), {})
    assert (said.outcome, said.reason, reply.arrays) == (Outcome.REFUSED, Reason.BUDGET, {})


@pytest.mark.parametrize(
    ("policy", "ask", "reason"),
    [
        ({"rounds": ["cohort"]}, {}, Reason.NOT_ALLOWED),
        ({"epsilon": 1.0}, {}, Reason.EPSILON),
        ({"without_dp": False}, {"epsilon": 0.0}, Reason.NO_PRIVACY),
        ({}, {"model": "pixcell-256"}, Reason.MODEL),
        ({}, {"steps": 3}, Reason.MALFORMED),
        ({}, {"rounds": 0}, Reason.MALFORMED),
        ({}, {"strategy": "sum"}, Reason.MALFORMED),
        ({}, {"epsilon": -1.0}, Reason.MALFORMED),
    ],
)
def test_more_than_the_policy_allows_is_refused_before_any_work(
    site: MakeSite, base: str, policy: dict[str, Any], ask: dict[str, Any], reason: Reason
) -> None:
    hub = site(**policy)
    said, reply = hub.ask(RoundKind.ADAPTER, asked(base, **ask), {})
    assert (said.outcome, said.reason, reply.arrays) == (Outcome.REFUSED, reason, {})
    assert not hub.home.ledger(hub.home.load_key()).verify().releases
    assert not list(hub.home.folder.glob("**/latents"))
