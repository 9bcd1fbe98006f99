"""An adapter round: what a site does with a task, and what a hub can check of its answer."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import (
    DigestError,
    FormatError,
    ReleaseRefusedError,
    SettingsError,
    SignatureError,
    WeightsMismatchError,
    WorkFolderError,
)
from pixcell_share.privacy.ledger import Budget
from pixcell_share.training.base import Base
from pixcell_share.training.private import (
    AdapterSite,
    AdapterTask,
    adapter_digest,
    answer_adapter_task,
    check_envelope,
    check_update,
    epsilon_of,
    largest_change,
    seeded_adapter,
    sign_adapter,
    weighted_mean,
)
from tests.private.conftest import LOOP, PRIVACY, TRAINING, Site, without_noise
from tests.private.test_private_train import Killed, after


@pytest.fixture
def place(site: Site) -> AdapterSite:
    return AdapterSite(
        model=str(site.model), latents=(site.store,), folder=site.folder / "trainings",
        ledger=site.ledger, budget=site.budget, key=site.key, loop=LOOP,
    )  # fmt: skip


def task_of(site: Site, number: int = 1, **changes) -> AdapterTask:
    usual = AdapterTask(
        training="spring", round=number, rounds=2, base_sha256=Base.load(str(site.model)).sha256,
        privacy=PRIVACY, local=TRAINING,
    )  # fmt: skip
    return replace(usual, **changes)


def test_two_rounds_are_one_charge_and_one_epsilon(site: Site, place: AdapterSite) -> None:
    first = answer_adapter_task(task_of(site), None, place)
    start = seeded_adapter(Base.load(str(site.model)), TRAINING)
    assert check_update(first.adapter, start, largest_change(start, TRAINING, 3)) is None
    second = answer_adapter_task(task_of(site, 2), first.adapter, place)
    trusted = [site.key.public]
    one, two = (check_envelope(a.envelope, trusted, a.adapter) for a in (first, second))
    assert (one.training, one.round, one.rounds) == ("spring", 1, 2)
    assert (one.start, two.start) == (adapter_digest(start), adapter_digest(first.adapter))
    assert one.key_id == two.key_id == site.key.public.key_id
    assert (one.record.steps, two.record.steps) == (3, 6)
    noise, rate = two.record.noise_multiplier, two.record.sampling_rate
    assert two.record.epsilon == epsilon_of([(noise, rate, 6)], PRIVACY.delta) <= PRIVACY.epsilon
    assert one.record.epsilon < two.record.epsilon
    (release,) = site.ledger.verify().releases
    assert release.id == one.record.release == two.record.release
    assert len(release.bundles) == 2
    # The rounds share neither noise nor participants: the same steps would give the same change.
    assert adapter_digest(second.adapter) != adapter_digest(first.adapter)


def test_a_repeat_gives_the_same_bytes_for_nothing(
    site: Site, place: AdapterSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer_adapter_task(task_of(site), None, place)
    module = "pixcell_share.training.private.answer.train_private_lora"
    monkeypatch.setattr(module, lambda *a, **k: pytest.fail("it was trained again"))
    again = answer_adapter_task(task_of(site), None, place)
    assert again.envelope == first.envelope
    assert adapter_digest(again.adapter) == adapter_digest(first.adapter)
    assert len(site.ledger.verify().releases) == 1


@pytest.mark.parametrize("error", [None, Killed], ids=["stopped", "killed"])
def test_a_broken_round_goes_on_and_is_charged_once(error, site: Site, place: AdapterSite) -> None:
    task = task_of(site, rounds=1)
    if error is None:
        assert answer_adapter_task(task, None, place, wants_stop=after(3)) is None
    else:
        with pytest.raises(Killed):
            answer_adapter_task(task, None, place, wants_stop=after(3, Killed))
    (release,) = site.ledger.verify().releases
    assert not release.bundles
    done = answer_adapter_task(task, None, place)
    (release,) = site.ledger.verify().releases
    assert len(release.bundles) == 1
    whole = replace(place, folder=site.folder / "elsewhere")
    with pytest.raises(WorkFolderError, match="its folder is gone"):
        answer_adapter_task(task, None, whole)
    unbroken = replace(whole, ledger=type(site.ledger)(site.folder / "other", site.key))
    assert answer_adapter_task(task, None, unbroken).envelope == done.envelope


def test_another_start_would_be_a_second_look(site: Site, place: AdapterSite) -> None:
    first = answer_adapter_task(task_of(site), None, place)
    answer_adapter_task(task_of(site, 2), first.adapter, place)
    other = {name: value + np.float32(0.1) for name, value in first.adapter.items()}
    for number in (1, 2):
        with pytest.raises(WorkFolderError, match="with another start"):
            answer_adapter_task(task_of(site, number), other, place)
    assert len(site.ledger.verify().releases) == 1


def test_a_task_above_the_budget_is_refused_before_work(site: Site, place: AdapterSite) -> None:
    small = replace(place, budget=Budget(epsilon=1.0, delta=0.1))
    with pytest.raises(ReleaseRefusedError, match="epsilon would come to 2 of 1"):
        answer_adapter_task(task_of(site), None, small)
    assert not site.ledger.verify().releases
    assert not list(place.folder.glob("*/round-*"))
    assert answer_adapter_task(task_of(site), None, place) is not None


@pytest.mark.parametrize("fault", ["names", "nan", "base", "none"])
def test_a_start_that_does_not_fit_is_refused(fault: str, site: Site, place: AdapterSite) -> None:
    start = seeded_adapter(Base.load(str(site.model)), TRAINING)
    task, error = task_of(site), WeightsMismatchError
    name = next(iter(start))
    if fault == "names":
        del start[name]
    elif fault == "nan":
        start[name][0, 0] = np.nan
    elif fault == "base":
        task = replace(task, base_sha256="0" * 64)
    else:
        task, start, error = task_of(site, 2), None, SettingsError
    with pytest.raises(error):
        answer_adapter_task(task, start, place)
    assert not site.ledger.verify().releases


def with_more_steps(envelope: bytes) -> bytes:
    """The same signature over another payload."""
    payload = json.loads(envelope)["payload"]
    text = base64.b64decode(payload)
    assert text.count(b'"steps":3,') == 1
    changed = base64.b64encode(text.replace(b'"steps":3,', b'"steps":2,'))
    return envelope.replace(payload.encode(), changed)


def test_a_hub_notices_what_was_changed_on_the_way(site: Site, place: AdapterSite) -> None:
    answer = answer_adapter_task(task_of(site), None, place)
    trusted = [site.key.public]
    name = next(iter(answer.adapter))
    larger = {**answer.adapter, name: answer.adapter[name] * np.float32(1000)}
    with pytest.raises(DigestError, match="another adapter"):
        check_envelope(answer.envelope, trusted, larger)
    stranger = SiteKey.create(site.folder / "stranger.key")
    with pytest.raises(SignatureError):
        check_envelope(answer.envelope, [stranger.public], answer.adapter)
    with pytest.raises(SignatureError):
        check_envelope(with_more_steps(answer.envelope), trusted, answer.adapter)
    with pytest.raises(FormatError):
        check_envelope(b"{}", trusted, answer.adapter)
    record = check_envelope(answer.envelope, trusted, answer.adapter).record
    other = sign_adapter(answer.adapter, record, site.key, start="0" * 64, training="../up")
    with pytest.raises(FormatError, match="name of a training"):
        check_envelope(other, trusted, answer.adapter)
    wrong = sign_adapter(answer.adapter, replace(record, steps=1.5), site.key, start="0" * 64)
    with pytest.raises(FormatError, match="steps"):
        check_envelope(wrong, trusted, answer.adapter)


def test_two_sites_meet_in_the_mean(site: Site, place: AdapterSite, tmp_path: Path) -> None:
    """The same tiles at two sites: each adds noise of its own secret."""
    key = SiteKey.create(tmp_path / "site.key")
    ledger = type(site.ledger)(tmp_path, key)
    second = replace(place, folder=tmp_path / "trainings", ledger=ledger, key=key)
    adapters = [answer_adapter_task(task_of(site), None, each).adapter for each in (place, second)]
    assert adapter_digest(adapters[0]) != adapter_digest(adapters[1])
    mean = weighted_mean(adapters, [9, 9])
    start = seeded_adapter(Base.load(str(site.model)), TRAINING)
    assert check_update(mean, start, largest_change(start, TRAINING, 3)) is None
    answer = answer_adapter_task(task_of(site, 2), mean, second)
    assert check_envelope(answer.envelope, [key.public], answer.adapter).record.steps == 6


def test_tasks_go_through_json_and_are_read_strictly(site: Site) -> None:
    for task in (task_of(site), task_of(site, privacy=without_noise(PRIVACY))):
        assert AdapterTask.from_json(json.loads(json.dumps(task.to_json()))) == task
    values = task_of(site).to_json()
    for wrong in (
        {**values, "path": "/etc"}, {**values, "round": 3}, {**values, "round": True},
        {**values, "training": "../up"}, {**values, "rounds": 4}, {**values, "base_sha256": 7},
        {**values, "privacy": {**values["privacy"], "epsilon": "8"}},
        {**values, "privacy": {**values["privacy"], "epsilon": None}},
        {**values, "local": {**values["local"], "device": "cuda"}},
        {**values, "local": {"rank": "4"}}, {**values, "privacy": {}}, {**values, "privacy": 1},
        [], None,
    ):  # fmt: skip
        with pytest.raises(SettingsError):
            AdapterTask.from_json(wrong)


def test_a_round_that_comes_out_differently_is_not_let_out(site: Site, place: AdapterSite) -> None:
    """The site's key was changed: with other noise it would be a second, uncharged release."""
    answer_adapter_task(task_of(site), None, place)
    for kept in place.folder.glob("*/round-0001"):
        shutil.rmtree(kept)
    other = replace(place, key=SiteKey.create(site.folder / "new.key"))
    with pytest.raises(ReleaseRefusedError, match="gave another adapter before"):
        answer_adapter_task(task_of(site), None, other)
    (release,) = site.ledger.verify().releases
    assert len(release.bundles) == 1
