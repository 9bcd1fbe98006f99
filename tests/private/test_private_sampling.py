"""Who takes part: Poisson sampling, bounded tiles, secret and repeatable; and the noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from pixcell_share.errors import SettingsError
from pixcell_share.training.batches import BatchMaker, SampleSettings
from pixcell_share.training.latents import Address, LatentStore, Source
from pixcell_share.training.private import Patients
from pixcell_share.training.private.noise import drawn_ahead, noised_mean
from pixcell_share.training.private.sampling import PatientOrder
from pixcell_share.training.private.steps import StepMaker
from pixcell_share.training.private.stream import SecretStream, keystream
from tests.private.conftest import make_patients_store, sources_of

SECRET = bytes(range(32))


def order_of(count: int, rows: int, rate: float, cap: int, secret: bytes = SECRET) -> PatientOrder:
    names = tuple(f"p{number}" for number in range(count))
    places = tuple(
        tuple(Address(0, patient * rows + row) for row in range(rows)) for patient in range(count)
    )
    return PatientOrder(Patients(names, places), rate, cap, SecretStream(secret, "test"))


def test_each_patient_takes_part_with_probability_q_by_itself() -> None:
    order = order_of(400, 1, 0.2, 1)
    taken = np.zeros((50, 400), bool)
    for step in range(50):
        taken[step, order.participants(step)] = True
    total = int(taken.sum())
    assert stats.binomtest(total, taken.size, 0.2).pvalue > 1e-4
    # The number in a step varies as that of independent draws does: it is no fixed batch.
    variance = taken.sum(1).var(ddof=1)
    assert 0.5 < variance / (400 * 0.2 * 0.8) < 2


def test_the_draws_repeat_with_the_secret_and_only_with_it() -> None:
    one, same = order_of(50, 9, 0.5, 4), order_of(50, 9, 0.5, 4)
    other = order_of(50, 9, 0.5, 4, bytes(32))
    for step in range(5):
        assert np.array_equal(one.participants(step), same.participants(step))
        assert not np.array_equal(one.participants(step), other.participants(step))
    places = [one.locate(int(p)).row for p in one.positions(3, 7)]
    assert places == [same.locate(int(p)).row for p in same.positions(3, 7)]


def test_a_patient_has_at_most_the_cap_of_different_tiles_drawn_anew() -> None:
    order = order_of(5, 20, 1.0, 6)
    steps = [[order.locate(int(p)).row for p in order.positions(step, 2)] for step in range(30)]
    assert all(len(set(rows)) == 6 and set(rows) <= set(range(40, 60)) for rows in steps)
    assert set(np.concatenate(steps)) == set(range(40, 60))
    assert len(order_of(5, 2, 1.0, 6).positions(0, 0)) == 2


def test_micro_batches_hold_whole_patients_and_draws_by_tile(patients_store: Path) -> None:
    sources = sources_of(patients_store)
    order = PatientOrder(Patients.of(sources), 1.0, 3, SecretStream(SECRET, "test"))
    drawn = SampleSettings(stage=256, global_batch=27, condition_dropout=0.5)
    maker = BatchMaker(order, sources, drawn)
    parts = list(StepMaker(order, maker, 7).parts(range(2)))
    assert [part.last for part in parts] == ([False] * 4 + [True]) * 2
    assert [part.tiles.patients for part in parts] == [2, 2, 2, 2, 1] * 2
    assert {part.patients for part in parts} == {9}
    first = parts[0].tiles
    assert first.owners.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(set(first.batch.timesteps.tolist())) == 6
    assert len({value.item() for value in first.batch.noise[:, 0, 0, 0]}) == 6
    dropped = torch.cat([part.tiles.batch.dropped for part in parts])
    assert 0 < int(dropped[:3].sum()) + int(dropped[3:6].sum()) < 6


def test_a_step_without_anybody_is_a_step() -> None:
    order = order_of(3, 1, 1e-9, 1)
    parts = list(StepMaker(order, None, 4).parts(range(2)))
    assert [(part.tiles, part.patients, part.last) for part in parts] == [(None, 0, True)] * 2


def test_the_noise_is_normal_and_each_steps_own() -> None:
    stream = SecretStream(SECRET, "test")
    drawn = stream.normal(20_000, "noise", 0)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    other = stream.normal(20_000, "noise", 1)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.03
    assert np.array_equal(drawn, SecretStream(SECRET, "test").normal(20_000, "noise", 0))
    assert not np.array_equal(drawn, SecretStream(SECRET, "else").normal(20_000, "noise", 0))
    uniform = stream.uniform(20_000, "participants", 0)
    assert 0 < uniform.min() < uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_the_keystream_is_chacha20() -> None:
    """RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero."""
    assert keystream(bytes(32), 8).hex() == "76b8e0ada0f13d90"


def test_noise_drawn_ahead_is_the_same_and_in_order() -> None:
    stream = SecretStream(SECRET, "test")
    with drawn_ahead(stream, range(3, 5), 10) as ahead:
        for step in (3, 4):
            assert np.array_equal(ahead.normal(10, "noise", step), stream.normal(10, "noise", step))
    with drawn_ahead(stream, range(3, 5), 10) as ahead, pytest.raises(ValueError, match="step 3"):
        ahead.normal(10, "noise", 4)


def test_the_noised_mean_is_over_the_expected_number() -> None:
    total = {"a": torch.ones(40, 50), "b": torch.zeros(30)}
    stream = SecretStream(SECRET, "test")
    plain = noised_mean(total, deviation=0.0, expected=4.0, stream=stream, step=0)
    assert torch.equal(plain["a"], torch.full((40, 50), 0.25))
    noised = noised_mean(total, deviation=2.0, expected=4.0, stream=stream, step=0)
    assert float(noised["a"].std()) == pytest.approx(0.5, rel=0.1)
    assert float(noised["a"].mean()) == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(noised["a"][0, :30], noised["b"] + 0.25)


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="5 bytes"):
        SecretStream(b"short", "test")


@pytest.mark.parametrize("cases", [["a", "b", ""], ["a", " ", "b"]], ids=["none", "blank"])
def test_a_store_that_does_not_name_its_patients_is_refused(cases, tmp_path: Path) -> None:
    store = make_patients_store(tmp_path / "store", cases)
    with pytest.raises(SettingsError, match="whose 1 of its 3 regions") as refused:
        Patients.of(sources_of(store))
    assert "case_id" in refused.value.remedy


def test_a_patient_of_two_stores_and_two_spellings_is_one(tmp_path: Path) -> None:
    one = make_patients_store(tmp_path / "one", ["M\u00fcller", "b"])
    two = make_patients_store(tmp_path / "two", ["Mu\u0308ller ", "c"])
    found = Patients.of([*sources_of(one), *sources_of(two)])
    assert found.names == ("M\u00fcller", "b", "c")
    assert found.rows[0] == (Address(0, 0), Address(1, 0))
    with pytest.raises(SettingsError, match="patients are drawn alike"):
        Patients.of([Source(LatentStore.open(one), 2)])
