"""The epsilon of a training is opacus' own, and impossible promises are refused."""

from __future__ import annotations

import math
import warnings

import pytest
from opacus.accountants import create_accountant

from pixcell_share.errors import AuditError, SettingsError
from pixcell_share.privacy.accounting import gaussian_epsilon
from pixcell_share.training.private import (
    PrivacySettings,
    PrivateRecord,
    epsilon_of,
    noise_multiplier_for,
)
from pixcell_share.training.private import accountant as module
from pixcell_share.training.private.accountant import Accountant
from pixcell_share.training.private.record import make_record
from tests.private.conftest import PRIVACY, without_noise

warnings.filterwarnings("ignore", module="opacus")


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.1, 0.1, 50), (3.0, 0.5, 20)])
@pytest.mark.parametrize("name", ["prv", "rdp"])
def test_epsilon_is_opacus_own(noise: float, rate: float, steps: int, name: str) -> None:
    theirs = create_accountant(name)
    for _ in range(steps):
        theirs.step(noise_multiplier=noise, sample_rate=rate)
    assert epsilon_of([(noise, rate, steps)], 1e-3, name) == theirs.get_epsilon(1e-3)
    ours = Accountant(noise, rate)
    for _ in range(steps):
        ours.step()
    assert ours.history == theirs.history


def test_the_noise_keeps_epsilon_and_wastes_little() -> None:
    noise = noise_multiplier_for(1.0, 1e-3, 0.2, 5)
    assert 0.97 <= epsilon_of([(noise, 0.2, 5)], 1e-3) <= 1.0
    theirs = create_accountant("prv")
    theirs.history = [(0.98 * noise, 0.2, 5)]
    assert theirs.get_epsilon(1e-3) > 0.99


def test_without_sampling_it_is_one_gaussian_mechanism() -> None:
    claimed = epsilon_of([(4.0, 1.0, 4)], 1e-4)
    exact = gaussian_epsilon(4.0 / math.sqrt(4), 1e-4)
    assert exact <= claimed <= exact + 0.03


def test_an_accountant_that_claims_too_little_is_noticed(monkeypatch) -> None:
    real = module._claim
    monkeypatch.setattr(
        module, "_claim", lambda h, d, a: real(h, d, a) * (0.8 if a == "prv" else 1)
    )
    with pytest.raises(AuditError, match="exact value"):
        epsilon_of([(4.0, 1.0, 4)], 1e-4)
    monkeypatch.setattr(module, "_claim", lambda h, d, a: real(h, d, a) * (3 if a == "prv" else 1))
    with pytest.raises(AuditError, match="rdp"):
        epsilon_of([(4.0, 0.5, 4)], 1e-4)


def test_the_accountants_state_goes_through_a_checkpoint() -> None:
    before = Accountant(1.5, 0.25, before=3)
    before.step()
    after = Accountant(1.5, 0.25)
    after.tensors()["accountant/history"].copy_(before.tensors()["accountant/history"])
    after.restore()
    assert after.history == [(1.5, 0.25, 4)]
    other = Accountant(0.5, 0.25)
    other.tensors()["accountant/history"].copy_(before.tensors()["accountant/history"])
    with pytest.raises(AuditError, match=r"with noise 1\.5"):
        other.restore()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epsilon": math.inf}, "protects no patient"),
        ({"without_guarantee": True}, "none was asked for"),
        ({"epsilon": 0.0}, "dp-epsilon"),
        ({"epsilon": math.nan}, "dp-epsilon"),
        ({"delta": 0.0}, "dp-delta"),
        ({"clip": 0.0}, "dp-clip"),
        ({"steps": 0}, "steps"),
        ({"tiles_per_patient": 0}, "tiles-per-patient"),
    ],
    ids=str,
)
def test_settings_that_promise_nothing_are_refused(wrong, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        PrivacySettings(**{"epsilon": 3.0, "delta": 1e-3, **wrong})


def test_delta_and_patients_have_to_fit() -> None:
    settings = PrivacySettings(epsilon=3.0, delta=0.05, patients_per_step=4)
    assert settings.rate_for(16) == 0.25
    with pytest.raises(SettingsError, match=r"not below 1 / 20.*"):
        settings.rate_for(20)
    with pytest.raises(SettingsError, match="4 patients per step, and there are 3"):
        settings.rate_for(3)


@pytest.mark.parametrize("epsilon", [0.001, 1000.0])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(SettingsError, match="between"):
        noise_multiplier_for(epsilon, 1e-3, 0.1, 10)


@pytest.mark.parametrize("settings", [PRIVACY, without_noise(PRIVACY)], ids=["private", "not"])
def test_settings_and_records_go_through_json(settings: PrivacySettings) -> None:
    assert PrivacySettings.from_json(settings.to_json()) == settings
    record = make_record(
        settings, noise_multiplier=2.0, rate=0.5, steps=3, release="0" * 64, base_sha256="1" * 64
    )
    assert PrivateRecord.from_json(record.to_json()) == record
    assert record.private == settings.private
    assert (record.unit, record.steps, record.steps_granted) == ("patient", 3, settings.steps)
    with pytest.raises(ValueError, match="type"):
        PrivateRecord.from_json(record.to_json() | {"delta": "small"})
    with pytest.raises(ValueError, match="entries"):
        PrivateRecord.from_json(record.to_json() | {"more": 1})
    with pytest.raises(SettingsError, match="type"):
        PrivacySettings.from_json(settings.to_json() | {"steps": 1.5})
