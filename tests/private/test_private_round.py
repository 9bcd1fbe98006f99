"""A federation's adapter rounds, both sides, without the engine that carries them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import (
    ReleaseRefusedError,
    SettingsError,
    WeightsMismatchError,
    WorkFolderError,
)
from pixcell_share.privacy.ledger import Budget, Ledger
from pixcell_share.training.base import Base
from pixcell_share.training.private import (
    Adapter,
    AdapterAnswer,
    AdapterSite,
    AdapterTask,
    adapter_digest,
    answer_adapter_task,
    check_envelope,
    check_update,
    largest_change,
    seeded_adapter,
    weighted_mean,
)
from tests.private.conftest import LOOP, PRIVACY, TRAINING, make_patients_store


@pytest.fixture
def task(model: Path) -> AdapterTask:
    """The first of two rounds of three steps each."""
    return AdapterTask(
        training="lungs", round=1, rounds=2, base_sha256=Base.load(str(model)).sha256,
        privacy=PRIVACY, local=TRAINING,
    )  # fmt: skip


@pytest.fixture
def site(model: Path, patients_store: Path, tmp_path: Path) -> AdapterSite:
    return site_in(tmp_path / "a", model, patients_store)


def site_in(home: Path, model: Path, store: Path) -> AdapterSite:
    key = SiteKey.create(home / "site.key")
    return AdapterSite(
        str(model), (store,), home / "trainings", Ledger(home, key),
        Budget(epsilon=3.0, delta=0.1), key, LOOP,
    )  # fmt: skip


def answered(task: AdapterTask, start: Adapter | None, site: AdapterSite) -> AdapterAnswer:
    answer = answer_adapter_task(task, start, site)
    assert answer is not None
    return answer


def test_two_sites_train_one_adapter_over_two_rounds(
    task: AdapterTask, site: AdapterSite, model: Path, tmp_path: Path
) -> None:
    other = site_in(tmp_path / "b", model, make_patients_store(tmp_path / "store-b", seed=3))
    begun = seeded_adapter(Base.load(str(model)), task.local)
    shared: Adapter = begun
    for number in (1, 2):
        asked, answers = replace(task, round=number), []
        for each in (site, other):
            answer = answered(asked, None if number == 1 else shared, each)
            bound = largest_change(shared, asked.local, len(asked.steps))
            assert check_update(answer.adapter, shared, bound) is None
            said = check_envelope(answer.envelope, [each.key.public], answer.adapter)
            assert (said.training, said.round, said.record.steps) == ("lungs", number, 3 * number)
            assert said.start == adapter_digest(shared)
            assert said.record.epsilon <= PRIVACY.epsilon
            answers.append(answer.adapter)
        shared = weighted_mean(answers, [1, 1])
    assert adapter_digest(shared) != adapter_digest(begun)
    for each in (site, other):
        (release,) = each.ledger.verify().releases
        assert len(release.bundles) == 2
        assert {paid.epsilon for paid in release.exposures.values()} == {PRIVACY.epsilon}


def test_a_round_asked_twice_gives_the_same_bytes_for_nothing(
    task: AdapterTask, site: AdapterSite
) -> None:
    first = answered(task, None, site)
    again = answered(task, None, site)
    assert again.envelope == first.envelope
    assert adapter_digest(again.adapter) == adapter_digest(first.adapter)
    assert len(site.ledger.verify().releases) == 1


def test_a_round_with_another_start_is_refused(task: AdapterTask, site: AdapterSite) -> None:
    first = answered(task, None, site)
    with pytest.raises(WorkFolderError, match="another start"):
        answer_adapter_task(task, first.adapter, site)
    later = replace(task, round=2)
    with pytest.raises(SettingsError, match="without a start"):
        answer_adapter_task(later, None, site)


def test_a_stopped_round_goes_on_and_a_lost_folder_is_refused(
    task: AdapterTask, site: AdapterSite, tmp_path: Path
) -> None:
    assert answer_adapter_task(task, None, site, wants_stop=lambda: True) is None
    (release,) = site.ledger.verify().releases
    assert not release.bundles, "charged before anything can leave"
    shutil.copytree(site.folder, tmp_path / "copy")
    broken = answered(task, None, site)
    shutil.rmtree(site.folder)
    with pytest.raises(WorkFolderError, match="its folder is gone"):
        answer_adapter_task(task, None, site)
    whole = answered(replace(task, training="again"), None, replace(site, budget=Budget(10, 0.1)))
    assert adapter_digest(whole.adapter) != adapter_digest(broken.adapter)
    shutil.copytree(tmp_path / "copy", site.folder, dirs_exist_ok=True)
    assert answered(task, None, site).envelope == broken.envelope


def test_above_the_budget_nothing_is_done(task: AdapterTask, site: AdapterSite) -> None:
    answered(task, None, site)
    second = replace(task, training="kidneys")
    with pytest.raises(ReleaseRefusedError, match="budget"):
        answer_adapter_task(second, None, site)
    assert len(site.ledger.verify().releases) == 1
    assert len(list(site.folder.glob("*/round-*"))) == 1


def test_another_generator_or_start_is_refused(
    task: AdapterTask, site: AdapterSite, model: Path
) -> None:
    with pytest.raises(WeightsMismatchError, match="another generator"):
        answer_adapter_task(replace(task, base_sha256="0" * 64), None, site)
    start = seeded_adapter(Base.load(str(model)), task.local)
    bad = {name: value * np.float32(np.nan) for name, value in start.items()}
    with pytest.raises(WeightsMismatchError, match="update_not_finite"):
        answer_adapter_task(replace(task, round=2), bad, site)
    assert not site.ledger.verify().releases


def test_a_task_goes_through_json_and_is_checked(task: AdapterTask) -> None:
    plain = task.to_json()
    assert AdapterTask.from_json(plain) == task
    assert [list(replace(task, round=n).steps) for n in (1, 2)] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"training": "../lungs"}, {"round": 3}, {"rounds": 4}, {"round": "1"}, {"extra": 1},
        {"privacy": {"epsilon": 1.0}}, {"local": {"rank": 2, "path": "x"}}, {"base_sha256": 5},
        {"local": {"rank": "4"}}, {"privacy": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_task_that_cannot_be_done_is_refused(wrong, task: AdapterTask) -> None:
    with pytest.raises(SettingsError):
        AdapterTask.from_json({**task.to_json(), **wrong})
