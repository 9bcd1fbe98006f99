"""A private training: the ledger first, the same bits after a break, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixcell_share.errors import (
    DataError,
    LossError,
    ReleaseRefusedError,
    SettingsError,
    WorkFolderError,
)
from pixcell_share.privacy.ledger import Budget, Exposure
from pixcell_share.training.base import Base
from pixcell_share.training.logs import read_log
from pixcell_share.training.private import (
    TrainingSettings,
    adapter_digest,
    epsilon_of,
    largest_change,
    seeded_adapter,
)
from pixcell_share.training.private.update import change
from tests.private.conftest import (
    LOOP,
    PRIVACY,
    TRAINING,
    Site,
    make_patients_store,
    sources_of,
    without_noise,
)


class Killed(BaseException):
    """What no code of ours catches."""


def after(steps: int, error: type[BaseException] | None = None):
    """A stop, or a death, after so many steps."""
    left = [steps]

    def wants_stop() -> bool:
        left[0] -= 1
        if left[0] == 0 and error is not None:
            raise error
        return left[0] == 0

    return wants_stop


def test_the_record_says_what_was_done(site: Site, tmp_path: Path) -> None:
    result = site.train(tmp_path / "run")
    record = result.record
    assert (record.steps, record.sampling_rate, record.clip) == (6, 4 / 9, PRIVACY.clip)
    assert record.epsilon == epsilon_of([(record.noise_multiplier, 4 / 9, 6)], PRIVACY.delta)
    assert 0 < record.epsilon <= 2 == record.epsilon_granted
    assert record.epsilon_check >= record.epsilon
    (release,) = site.ledger.verify().releases
    assert release.id == record.release
    assert set(release.exposures.values()) == {Exposure(epsilon=2.0, delta=1e-2, tiles=4)}
    assert len(release.exposures) == 9
    start = seeded_adapter(Base.load(str(site.model)), TRAINING)
    moved = change(result.adapter, start)
    assert 0 < moved <= largest_change(start, TRAINING, 6)
    assert moved > 0.1 * largest_change(start, TRAINING, 6)


@pytest.mark.parametrize("error", [None, Killed], ids=["stopped", "killed"])
def test_a_broken_run_ends_with_the_same_bits_and_is_charged_once(
    error, site: Site, tmp_path: Path
) -> None:
    whole = site.train(tmp_path / "whole")
    if error is None:
        stopped = site.train(tmp_path / "run", wants_stop=after(3))
        assert (stopped.stopped, stopped.step, stopped.record.steps) == (True, 3, 3)
        assert stopped.record.epsilon < whole.record.epsilon
    else:
        with pytest.raises(Killed):
            site.train(tmp_path / "run", wants_stop=after(3, Killed))
    assert len(site.ledger.verify().releases) == 1
    assert not site.ledger.verify().releases[0].bundles
    ended = site.train(tmp_path / "run")
    assert adapter_digest(ended.adapter) == adapter_digest(whole.adapter)
    assert ended.record == whole.record
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert len(site.ledger.verify().releases) == 1


def losses(folder: Path) -> list[tuple]:
    return [(line["loss"], line["grad_norm"], line["clipped"]) for line in read_log(folder)]


def test_the_size_of_a_micro_batch_changes_rounding_alone(site: Site, tmp_path: Path) -> None:
    one = site.train(tmp_path / "one")
    other = site.train(tmp_path / "other", loop=replace(LOOP, micro_batch=3))
    for name, value in one.adapter.items():
        np.testing.assert_allclose(value, other.adapter[name], rtol=1e-3, atol=1e-4)


def test_another_secret_gives_another_adapter(site: Site, tmp_path: Path) -> None:
    one = site.train(tmp_path / "one")
    other = site.train(tmp_path / "other", secret=bytes(32))
    assert adapter_digest(one.adapter) != adapter_digest(other.adapter)
    with pytest.raises(WorkFolderError, match="secret"):
        site.train(tmp_path / "one", secret=bytes(32))


def test_nothing_is_computed_that_the_budget_does_not_cover(site: Site, tmp_path: Path) -> None:
    site.budget = Budget(epsilon=3.0, delta=0.1)
    site.train(tmp_path / "first")
    with pytest.raises(ReleaseRefusedError, match="epsilon would come to 4 of 3 for 9 of 9"):
        site.train(tmp_path / "second", training=replace(TRAINING, seed=1))
    assert not (tmp_path / "second").exists()
    assert len(site.ledger.verify().releases) == 1


def test_cohorts_and_adapters_add_up_in_one_ledger(site: Site, tmp_path: Path) -> None:
    cohort = {f"patient-{n}": Exposure(epsilon=3.0, delta=1e-5, tiles=2) for n in range(4)}
    site.ledger.spend("c" * 64, cohort, site.budget)
    site.train(tmp_path / "run")
    totals = site.ledger.verify().totals()
    both = totals[site.ledger.pseudonym("patient-0")]
    assert (both.epsilon, both.delta) == (5.0, pytest.approx(1e-2 + 1e-5))
    assert totals[site.ledger.pseudonym("patient-8")].epsilon == 2.0


def test_without_a_guarantee_it_is_a_release_without_one(site: Site, tmp_path: Path) -> None:
    result = site.train(tmp_path / "run", privacy=without_noise(PRIVACY))
    record = result.record
    assert (record.epsilon, record.clip, record.noise_multiplier) == (None, None, 0.0)
    assert "no guarantee" in record.sentence()
    (total,) = set(site.ledger.verify().totals().values())
    assert (total.epsilon, total.releases) == (0.0, 1)


def test_bad_tiles_are_refused_or_left_out(site: Site, tmp_path: Path) -> None:
    site.store = make_patients_store(tmp_path / "bad", ["a", "b", "c", "d"] * 2, bad_row=2)
    privacy = replace(PRIVACY, steps=2)
    with pytest.raises(DataError, match="NaN"):
        site.train(tmp_path / "run", privacy)
    skipping = replace(LOOP, on_bad_data="skip")
    result = site.train(tmp_path / "skip", privacy, loop=skipping, say=lambda text: None)
    assert all(np.isfinite(value).all() for value in result.adapter.values())
    assert sum(line["left_out"] for line in read_log(tmp_path / "skip")) == 2


def test_a_gradient_that_is_not_finite_stops_the_run(site: Site, tmp_path: Path) -> None:
    base = Base.load(str(site.model))
    with torch.no_grad():
        base.transformer.proj_out.weight[0, 0] = torch.inf
    site.train(tmp_path / "good")
    from tests.private import conftest

    original = conftest.Base.load
    conftest.Base.load = classmethod(lambda cls, name: base)
    try:
        with pytest.raises(LossError, match="NaN or infinite"):
            site.train(tmp_path / "run")
    finally:
        conftest.Base.load = original
    assert json.loads((tmp_path / "run" / "bad-batch.json").read_text())["step"] == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_of_another_run_is_refused(site: Site, tmp_path: Path) -> None:
    site.budget = Budget(epsilon=100.0, delta=0.1)
    site.train(tmp_path / "run")
    with pytest.raises(WorkFolderError, match="begun with"):
        site.train(tmp_path / "run", training=replace(TRAINING, rate=2e-3))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rate": 0.0}, {"seed": -1}], ids=str)
def test_impossible_training_settings_are_refused(wrong) -> None:
    with pytest.raises(SettingsError):
        TrainingSettings(**wrong)


def test_the_stores_rows_decide_the_release(site: Site, tmp_path: Path) -> None:
    assert sources_of(site.store)
    site.budget = Budget(epsilon=100.0, delta=0.1)
    site.train(tmp_path / "one")
    site.store = make_patients_store(tmp_path / "other", seed=1)
    site.train(tmp_path / "two")
    assert len(site.ledger.verify().releases) == 2
