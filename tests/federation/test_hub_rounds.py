"""The hub's part of rounds with several sites, over a grid that hands messages on in process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from hub_server.federation import adapter_round, encoder_round, probe_round
from hub_server.federation.asking import Asking
from hub_server.federation.combining import combine
from hub_server.federation.rounds import RoundFolder
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import MembershipError
from pixcell_share.federation import Answer, RoundKind, Sealed
from pixcell_share.federation.encoder_asks import ENCODER
from pixcell_share.federation.records import arrays_digest, pack, unpack
from pixcell_share.pixcell.lora import load_lora
from pixcell_share.ssl import ARCHITECTURES
from pixcell_share.ssl.vit import VisionTransformer
from pixcell_share.training.base import Base
from site_agent.federation.answering import Reply, answer
from site_agent.federation.desk import Desk
from site_agent.federation.handlers import HANDLERS
from site_agent.home import SiteHome
from tests.federation.own_tiles_site import Asked, MakeSite, draw_own_tiles, site

__all__ = ["site"]  # a fixture
Arrays = dict[str, np.ndarray]
Spoil = Callable[[Arrays], Arrays]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_own_tiles(tmp_path_factory.mktemp("few") / "tiles", 12, 1)


@pytest.fixture(autouse=True)
def _in_a_run() -> Iterator[None]:
    """Messages can be made in a run of Flower alone."""
    names = ("task_id", "run_id", "node_id")
    before = [getattr(TaskIdentity, f"_{name}") for name in names]
    for name in names:
        setattr(TaskIdentity, f"_{name}", 1)
    yield
    for name, value in zip(names, before, strict=True):
        setattr(TaskIdentity, f"_{name}", value)


@dataclass
class InProcess(Grid):
    """Nodes 1, 2, ... are sites; what is pushed is answered at once."""

    homes: dict[int, SiteHome]
    hub: SiteKey
    replies: list[Message] = field(default_factory=list)
    bytes_sent: list[int] = field(default_factory=list)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.homes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for number, message in enumerate(messages):
            node = message.metadata.dst_node_id
            ids.append(f"{node}-{len(self.replies)}-{number}")
            message.metadata.__dict__["_message_id"] = ids[-1]
            sealed, arrays = unpack(message.content)
            kind = RoundKind.of(message.metadata.message_type)
            reply = answer(self.homes[node], self.hub.key_id, kind, sealed, arrays)
            self.bytes_sent.append(sum(array.nbytes for array in reply.arrays.values()))
            self.replies.append(Message(pack(reply.sealed, reply.arrays), reply_to=message))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        found = [r for r in self.replies if r.metadata.reply_to_message_id in wanted]
        self.replies = [r for r in self.replies if r not in found]
        return found

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def set_run(self, *args: Any) -> None:
        raise NotImplementedError

    def create_message(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError


def asking(
    grid: InProcess, folder: Path, kind: RoundKind, ask: dict[str, Any],
    arrays: Arrays | None = None, expected: int | None = None,
) -> Asking:  # fmt: skip
    members = {home.load_key().key_id: f"site {n}" for n, home in grid.homes.items()}

    def site_of(key_id: str) -> str:
        if key_id not in members:
            raise MembershipError("no member")
        return members[key_id]

    count = len(grid.homes) if expected is None else expected
    wanted = RoundFolder.begin(folder, kind, ask, arrays, expected=count, wait_s=300, gather_s=0.5)
    return Asking(grid, RoundFolder(folder / wanted.id), wanted, grid.hub, site_of)


def federation(site: MakeSite, *policies: dict[str, Any]) -> InProcess:
    first: Asked = site(**policies[0])
    homes = {1: first.home, **{n: site(**p).home for n, p in enumerate(policies[1:], start=2)}}
    return InProcess(homes, first.hub)


class Losing(InProcess):
    """The answers of node 2 never arrive."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages(n for n in message_ids if not n.startswith("2-"))


def test_who_takes_too_long_and_who_is_no_member_are_shown_as_silent(
    site: MakeSite, tmp_path: Path
) -> None:
    known = federation(site, *[{"rounds": []}] * 3)
    grid = Losing(known.homes, known.hub)
    asked = asking(grid, tmp_path / "rounds", RoundKind.COHORT, {})
    stranger = grid.homes[3].load_key().key_id

    def site_of(key_id: str) -> str:
        if key_id == stranger:
            raise MembershipError("no member")
        return asked.site_of(key_id)

    heard = replace(asked, wanted=replace(asked.wanted, wait_s=2.0), site_of=site_of).ask()
    assert [(h.site, h.answer.reason.value) for h in heard] == [("site 1", "not_allowed")]
    assert asked.folder.silent() == {"node 2": "no_answer", "node 3": "unsigned"}


ADAPTER = {
    "rounds": 2, "epsilon": 8.0, "delta": 1e-3, "patients_per_step": 4, "tiles_per_patient": 1,
    "steps": 2,
}  # fmt: skip


@pytest.mark.slow
def test_an_adapter_of_two_sites_and_one_that_refuses(site: MakeSite, tmp_path: Path) -> None:
    grid = federation(site, {}, {}, {"epsilon": 1.0})
    base = Base.load("nano")
    asked = asking(
        grid, tmp_path / "rounds", RoundKind.ADAPTER, {**ADAPTER, "base_sha256": base.sha256}
    )
    result = adapter_round.conduct(asked)
    assert [each["counted"] for each in result["exchanges"]] == [["site 1", "site 2"]] * 2
    assert set(result["epsilon"]) == {"site 1", "site 2"}
    assert all(0 < spent <= 8 for spent in result["epsilon"].values())
    refused = {
        h.site: h.answer.reason.value for h in asked.folder.answers(0) if not h.answer.result
    }
    assert refused == {"site 3": "epsilon_too_large"}
    assert max(grid.bytes_sent) == result["bytes"]  # a LoRA travels, nothing else
    loaded = load_lora(base.transformer, asked.folder.folder / adapter_round.FILE)
    assert loaded.base_sha256 == base.sha256
    # A run that died goes on from what was kept: nobody is asked twice, nothing is charged again.
    again = Asking(grid, asked.folder, asked.wanted, grid.hub, asked.site_of)
    before = len(grid.bytes_sent)
    assert adapter_round.conduct(again) == result and len(grid.bytes_sent) == before


def large(arrays: Arrays) -> Arrays:
    return {name: value * 1000 + 1 for name, value in arrays.items()}


def broken(arrays: Arrays) -> Arrays:
    return {name: np.full_like(value, np.nan) for name, value in arrays.items()}


def other_shape(arrays: Arrays) -> Arrays:
    return {name: value[:1] for name, value in arrays.items()}


def changed(arrays: Arrays) -> Arrays:
    return {name: value + np.float32(1e-6) for name, value in arrays.items()}


@pytest.mark.slow
def test_updates_that_cannot_be_are_left_out_by_name(
    site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site whose program was changed signs what it likes; the hub looks at what it is."""
    grid = federation(site, *[{}] * 5)
    spoil = {2: large, 3: broken, 4: other_shape, 5: changed}
    monkeypatch.setattr(sys.modules[__name__], "answer", spoiling(spoil, grid))
    ask = {**ADAPTER, "rounds": 1, "steps": 1, "base_sha256": Base.load("nano").sha256}
    result = adapter_round.conduct(asking(grid, tmp_path / "rounds", RoundKind.ADAPTER, ask))
    exchange = result["exchanges"][0]
    assert exchange["counted"] == ["site 1"]
    assert exchange["left_out"] == {
        "site 2": "update_too_large",
        "site 3": "update_not_finite",
        "site 4": "update_shape",
        "site 5": "record_not_signed",
    }


def spoiling(spoil: dict[int, Spoil], grid: InProcess) -> Any:
    """`answer` of sites that change their arrays and sign the answer over them."""
    honest = answer

    def changed_answer(home: SiteHome, *args: Any) -> Reply:
        reply = honest(home, *args)
        node = next(n for n, own in grid.homes.items() if own == home)
        if node not in spoil:
            return reply
        key, arrays = home.load_key(), spoil[node](reply.arrays)
        said = Answer.of(reply.sealed.open("answer", key.key_id))
        said = replace(said, arrays_sha256=arrays_digest(arrays))
        return Reply(Sealed.seal(said.document(), "answer", key), arrays)

    return changed_answer


@pytest.fixture(scope="module")
def encoder() -> Arrays:
    torch.manual_seed(0)
    state = VisionTransformer(ARCHITECTURES["tiny"], layer_scale=0.1).state_dict()
    return {name: value.numpy() for name, value in state.items()}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Enough tiles for figures."""
    folder = draw_own_tiles(tmp_path_factory.mktemp("more") / "tiles", 36, 6)
    return {"tiles": str(folder), "table": str(folder / "tiles.csv")}


def test_an_encoder_is_judged_and_a_probe_is_trained_at_two_sites(
    site: MakeSite, encoder: Arrays, many: dict[str, str], tmp_path: Path
) -> None:
    grid = federation(site, many, {**many, "rounds": ["encoder"]})
    arrays = {ENCODER + name: value for name, value in encoder.items()}
    ask = {"encoder_sha256": arrays_digest(encoder), "classes": "coarse,fine,stripes"}
    judged = encoder_round.conduct(asking(grid, tmp_path / "e", RoundKind.ENCODER, ask, arrays))
    assert set(judged["sites"]) == {"site 1", "site 2"}
    assert 1 / 3 < judged["mean"]["linear_probing"] <= 1
    trained = probe_round.conduct(
        asking(grid, tmp_path / "p", RoundKind.PROBE, {**ask, "rounds": 3}, arrays)
    )
    assert [list(each) for each in trained["exchanges"]] == [["site 1"]] * 4
    losses = [each["site 1"]["loss"] for each in trained["exchanges"]]
    assert losses[-1] < losses[0]  # how much depends on the patients that the site's key keeps back


class Late(InProcess):
    """Node 2 comes in the second step."""

    def get_node_ids(self) -> Iterable[int]:
        return list(self.homes) if len(self.bytes_sent) > 1 else [1]


@pytest.mark.slow
def test_a_site_that_missed_the_encoder_gets_it_again(
    site: MakeSite, encoder: Arrays, many: dict[str, str], tmp_path: Path
) -> None:
    known = federation(site, many, many)
    arrays = {ENCODER + name: value for name, value in encoder.items()}
    ask = {"encoder_sha256": arrays_digest(encoder), "classes": "coarse,fine,stripes"}
    grid = Late(known.homes, known.hub)
    asked = asking(
        grid, tmp_path / "p", RoundKind.PROBE, {**ask, "rounds": 2, "steps": 1}, arrays, expected=2
    )
    took_part = [list(each) for each in probe_round.conduct(asked)["exchanges"]]
    assert took_part == [["site 1"], ["site 1"], ["site 1", "site 2"]]


@pytest.mark.parametrize(("stops", "heard"), [(1, 1), (9, 0)])
def test_work_that_a_site_stopped_is_asked_for_again(
    site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: int, heard: int
) -> None:
    work = Stopping(stops)
    monkeypatch.setitem(HANDLERS, RoundKind.COHORT, work)
    asked = asking(
        federation(site, {"rounds": ["cohort"]}), tmp_path / "rounds", RoundKind.COHORT, {}
    )
    answers = asked.ask()
    assert [each.answer.outcome.value for each in answers] == ["done"] * heard
    assert asked.folder.silent() == ({} if heard else {"site 1": "stopped"})
    assert work.tries == (stops + 1 if heard else 3)


def test_a_site_that_broke_down_is_waited_for_longer_than_one_that_never_came(
    site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HANDLERS, RoundKind.COHORT, Stopping(0))
    known = federation(site, {"rounds": ["cohort"]})
    asked = asking(
        Broken(known.homes, known.hub), tmp_path / "rounds", RoundKind.COHORT, {}, expected=2
    )
    answers = asked.ask()
    assert [(each.site, each.answer.outcome.value) for each in answers] == [("site 1", "done")]


@dataclass
class Broken(InProcess):
    """A node that breaks down as it is asked first, and is back after some looks."""

    away: int = 3

    def get_node_ids(self) -> Iterable[int]:
        if self.bytes_sent and self.away:
            self.away -= 1
            return []
        return super().get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        asked = list(messages)
        numbers = super().push_messages(asked)
        if self.away:
            gone = Error(ErrorCode.NODE_UNAVAILABLE)
            self.replies = [Message(gone, reply_to=message) for message in asked]
        return numbers


@dataclass
class Stopping:
    """Work during which the agent is asked to stop, some times."""

    stops: int
    tries: int = 0

    def permit(self, desk: Desk) -> None:
        pass

    def work(self, desk: Desk, arrays: Arrays) -> dict[str, Any]:
        self.tries += 1
        if self.tries <= self.stops:
            desk.places.stop_file.touch()
        try:
            with desk.view.stage("generate", 1, "tiles"):
                return {"made": 1}
        finally:
            desk.places.stop_file.unlink(missing_ok=True)


@pytest.mark.parametrize("strategy", ["median", "trimmed"])
def test_robust_strategies_hold_where_one_of_seven_sends_anything(strategy: str) -> None:
    rng = np.random.default_rng(0)
    honest = [{"a": rng.normal(1, 0.1, (3, 2)).astype(np.float32)} for _ in range(6)]
    wild = {"a": np.full((3, 2), 1e6, np.float32)}
    found = combine(strategy, [*honest, wild], [1.0] * 7)["a"]
    assert np.abs(found - 1).max() < 0.3
    assert np.abs(combine("fedavg", [*honest, wild], [1.0] * 7)["a"]).min() > 1e4


def test_fedavg_weighs_by_patients() -> None:
    one, two = {"a": np.zeros(2, np.float32)}, {"a": np.ones(2, np.float32)}
    np.testing.assert_allclose(combine("fedavg", [one, two], [1.0, 3.0])["a"], 0.75)
    with pytest.raises(ValueError, match="no update"):
        combine("fedavg", [], [])
