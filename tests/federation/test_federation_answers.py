"""What a site answers: by policy before any work, once for each request, and in codes only."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import (
    HubUnreachableError,
    LedgerError,
    PixcellError,
    ReleaseRefusedError,
    SlideUnreadableError,
    StorageError,
)
from pixcell_share.federation import Answer, CohortAsk, Outcome, Reason, Request, RoundKind, Sealed
from site_agent.federation.answering import Arrays, Reply, answer
from site_agent.federation.desk import Desk
from site_agent.federation.handlers import HANDLERS
from site_agent.federation.places import Places
from site_agent.federation.work import WithArrays
from site_agent.home import SiteHome

SECRET = "Mueller-1953.svs"


@dataclass
class Site:
    """A site, and the hub that it believes."""

    home: SiteHome
    hub: SiteKey

    def allow(self, **entries: Any) -> None:
        given = {"rounds": ["cohort"], "slides": f"/data/{SECRET}", **entries}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        self.home.config_file.write_text("\n".join(["[federation]", *lines, ""]))

    def ask(
        self,
        ask: Mapping[str, Any] | None = None,
        *,
        number: str = "",
        signer: SiteKey | None = None,
        kind: RoundKind | None = RoundKind.COHORT,
    ) -> tuple[Answer, Reply]:
        request = Request(
            number or secrets.token_hex(16),
            RoundKind.COHORT,
            CohortAsk().document() if ask is None else ask,
        )
        sealed = Sealed.seal(request.document(), "request", signer or self.hub)
        reply = answer(self.home, self.hub.key_id, kind, sealed, {})
        said = reply.sealed.open("answer", self.home.load_key().key_id)
        assert SECRET not in json.dumps(said) and str(self.home.folder) not in json.dumps(said)
        return Answer.of(said), reply


@dataclass
class Recorder:
    """Work that is counted, and fails if it is told to."""

    error: BaseException | None = None
    done: list[str] = field(default_factory=list)

    def permit(self, desk: Desk) -> None:
        HANDLERS_COHORT.permit(desk)

    def work(self, desk: Desk, arrays: Arrays) -> WithArrays:
        self.done.append(desk.request.round)
        assert desk.places.working.exists()
        if self.error is not None:
            raise self.error
        return WithArrays({"made": 1}, {"update": np.ones(3, np.float32)})


HANDLERS_COHORT = HANDLERS[RoundKind.COHORT]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = SiteHome(tmp_path / "site")
    home.initialise("hospital-a")
    made = Site(home, SiteKey.create(tmp_path / "hub.key"))
    made.allow()
    return made


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(HANDLERS, RoundKind.COHORT, recorder)
    return recorder


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        ({"tiles_per_class": 1001}, Reason.TILES),
        ({"dp_epsilon": 8.5}, Reason.EPSILON),
        ({"model": "pixcell-256"}, Reason.MODEL),
        ({"model": f"/models/{SECRET}"}, Reason.MODEL),
        ({"tiles": 3}, Reason.MALFORMED),
        ({"mix": 0}, Reason.MALFORMED),
    ],
)
def test_a_request_above_policy_is_refused_before_any_work(
    site: Site, work: Recorder, ask: dict[str, Any], reason: Reason
) -> None:
    said, _ = site.ask(ask)
    assert (said.outcome, said.reason) == (Outcome.REFUSED, reason) and not work.done


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"rounds": ["adapter"]}, Reason.NOT_ALLOWED),
        ({"hours": "00:00-00:00"}, Reason.HOURS),
        ({"slides": ""}, Reason.NO_DATA),
    ],
)
def test_the_policy_closes_a_kind_of_round(
    site: Site, work: Recorder, entries: dict[str, Any], reason: Reason
) -> None:
    site.allow(**entries)
    said, _ = site.ask()
    assert (said.outcome, said.reason) == (Outcome.REFUSED, reason) and not work.done


def test_whoever_holds_no_key_of_the_hub_can_ask_for_nothing(
    site: Site, work: Recorder, tmp_path: Path
) -> None:
    said, _ = site.ask(signer=SiteKey.create(tmp_path / "intruder.key"))
    assert said.reason is Reason.NOT_BY_HUB and not work.done


def test_a_signed_request_cannot_be_sent_as_another_kind(site: Site, work: Recorder) -> None:
    assert site.ask(kind=RoundKind.ADAPTER)[0].reason is Reason.MALFORMED
    assert site.ask(kind=None)[0].reason is Reason.UNKNOWN_TYPE
    assert not work.done


def test_the_same_request_is_worked_on_once(site: Site, work: Recorder) -> None:
    first, reply = site.ask(number="a" * 32)
    again, same = site.ask(number="a" * 32)
    assert first.outcome is Outcome.DONE and again == first and len(work.done) == 1
    assert same.sealed == reply.sealed and np.array_equal(same.arrays["update"], np.ones(3))


def test_a_round_cannot_change_its_words(site: Site, work: Recorder) -> None:
    site.ask(number="a" * 32)
    said, _ = site.ask({"tiles_per_class": 9}, number="a" * 32)
    assert said.reason is Reason.ROUND_CHANGED and len(work.done) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ReleaseRefusedError(SECRET), Outcome.REFUSED, Reason.GATE),
        (LedgerError(SECRET), Outcome.REFUSED, Reason.LEDGER),
        (SlideUnreadableError(SECRET), Outcome.FAILED, Reason.NO_DATA),
        (StorageError(SECRET), Outcome.FAILED, Reason.STORAGE),
        (HubUnreachableError(SECRET, ""), Outcome.FAILED, Reason.HUB),
        (PixcellError(SECRET), Outcome.FAILED, Reason.INTERNAL),
        (OSError(2, SECRET, f"/data/{SECRET}"), Outcome.FAILED, Reason.INTERNAL),
        (MemoryError(SECRET), Outcome.FAILED, Reason.INTERNAL),
    ],
)
def test_what_went_wrong_is_told_by_a_code_and_may_be_tried_again(
    site: Site, work: Recorder, error: BaseException, outcome: Outcome, reason: Reason
) -> None:
    work.error = error
    said, _ = site.ask(number="a" * 32)
    assert (said.outcome, said.reason, said.result) == (outcome, reason, {})
    assert not Places(site.home).working.exists()
    work.error = None
    assert site.ask(number="a" * 32)[0].outcome is Outcome.DONE and len(work.done) == 2


def test_a_wrong_site_toml_is_told_by_a_code(site: Site, work: Recorder) -> None:
    site.home.config_file.write_text(f'[federation]\nslides = "{SECRET}')
    said, _ = site.ask()
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.SETTINGS) and not work.done


def test_a_gpu_that_somebody_holds_is_not_taken(site: Site, work: Recorder, tmp_path: Path) -> None:
    lock = tmp_path / "gpu.lock"
    site.allow(gpu_lock=str(lock))
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert site.ask()[0].reason is Reason.BUSY and not work.done
    assert site.ask()[0].outcome is Outcome.DONE


def test_work_stops_between_tiles_when_the_agent_is_asked_to(site: Site) -> None:
    request = Request("a" * 32, RoundKind.COHORT, {})
    desk = Desk(site.home, site.home.config().federation, site.home.load_key(), request)
    with pytest.raises(Exception) as stopped, desk.view.stage("generate", 8, "tiles") as advance:
        advance(1)
        desk.places.stop_file.parent.mkdir(parents=True, exist_ok=True)
        desk.places.stop_file.touch()
        advance(1)
    assert str(stopped.value) == Reason.STOPPED
    night = replace(desk, policy=replace(desk.policy, hours="00:00-00:00"))
    desk.places.stop_file.unlink()
    with pytest.raises(Exception, match=Reason.STOPPED), night.view.stage("check", 1, "tiles"):
        pass
