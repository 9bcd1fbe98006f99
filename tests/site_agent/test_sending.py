"""Sending over a real link, with TLS, that breaks; to a hub that is killed."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub_server import tls
from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.log import verify_log
from hub_server.registry import Cohort
from pixcell_share.bundles import BundleSummary, load_public_key, write_bundle
from pixcell_share.errors import (
    BundleError,
    DigestError,
    HubError,
    HubTrustError,
    HubUnreachableError,
    MembershipError,
    UploadError,
)
from pixcell_share.progress import Advance
from pixcell_share.wire import Refusal
from site_agent.delivery import SendSettings
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink
from site_agent.hub_printing import show_sent
from site_agent.outbox import Outbox
from site_agent.patience import Patience, StoppedError
from site_agent.pieces import PieceSize
from site_agent.sending import send
from site_agent.team import work_through
from tests.bundles.forging import COHORT, PASSED, make_tiles
from tests.site_agent.cutting_proxy import CuttingProxy, some_cut
from tests.site_agent.served_hub import ProcessHub, ThreadHub, admit

TILES = 240
PIECE = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}
QUICK = SendSettings(give_up_after_s=60.0)


class Quiet:
    """A view that remembers, and may do something when bytes have arrived."""

    def __init__(self, on_bytes: Any = lambda: None) -> None:
        self.said: list[str] = []
        self._on_bytes = on_bytes

    def stage(
        self, name: str, total: int, unit: str, done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Nothing is shown."""

        @contextmanager
        def nothing() -> Iterator[Advance]:
            yield lambda _: self._on_bytes()

        return nothing()

    def say(self, text: str) -> None:
        """Remember a line."""
        self.said.append(text)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (
        "site_agent.patience._FIRST_PAUSE_S",
        "site_agent.sending._FIRST_LOOK_S",
        "hub_server.web.background._LOOK_EVERY_S",
    ):
        monkeypatch.setattr(place, 0.1)


@pytest.fixture(scope="module")
def site_and_bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteHome, BundleSummary]:
    """A site, and a bundle of it in six shards, 750 kB."""
    folder = tmp_path_factory.mktemp("site")
    home = SiteHome(folder / "home")
    key = home.initialise("hospital-a")
    cohort = replace(COHORT, site="hospital-a")
    summary = write_bundle(
        folder / "bundle", cohort, make_tiles(TILES), PASSED, key, count=TILES, shard_bytes=130_000
    )
    return home, summary


@pytest.fixture
def site(site_and_bundle: tuple[SiteHome, BundleSummary]) -> SiteHome:
    home = site_and_bundle[0]
    for path in [home.folder / "hub.json", *(home.folder / "outbox").glob("*")]:
        path.unlink(missing_ok=True)
    return home


@pytest.fixture
def bundle(site_and_bundle: tuple[SiteHome, BundleSummary]) -> Path:
    return site_and_bundle[1].folder


@pytest.fixture
def hub_home(tmp_path: Path) -> HubHome:
    home = HubHome(tmp_path / "hub")
    home.initialise("Hub of the tests", "https://localhost:8443")
    return home


@pytest.fixture
def hub(hub_home: HubHome, site: SiteHome) -> Iterator[ThreadHub]:
    """A served hub of which ``site`` is a member."""
    served = ThreadHub(hub_home).start()
    admit(hub_home, site, served.port)
    yield served
    served.stop()


def through(site: SiteHome, port: int) -> None:
    """Let the site reach the hub on another port."""
    replace(HubLink.load(site), url=f"https://127.0.0.1:{port}").save(site)


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a bundle of the tests is sent in many."""
    monkeypatch.setattr("site_agent.pieces._SMALLEST", 4096)
    monkeypatch.setattr("site_agent.pieces._LARGEST", 16384)


@pytest.mark.slow
def test_a_bundle_arrives_over_a_link_that_breaks_at_a_hub_that_is_killed(
    hub_home: HubHome, site: SiteHome, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    hub = ProcessHub(hub_home).start()
    admit(hub_home, site, hub.port)
    chance, seen = random.Random(0), 0

    def on_bytes() -> None:
        nonlocal seen
        seen += 1
        if seen == 12:
            hub.kill()
            threading.Timer(chance.random(), hub.start).start()

    with CuttingProxy(hub.port, some_cut(1, 0.8, 30_000)) as proxy:
        through(site, proxy.port)
        outcome = send(bundle, site, Quiet(on_bytes), QUICK)
        assert proxy.cuts > 5
    assert (outcome.state, outcome.exit_code) == ("accepted", 0)
    assert seen > 40
    registry = hub_home.registry()
    with registry.reading() as session:
        assert session.get_one(Cohort, outcome.bundle).tiles == TILES
    registry.close()
    assert outcome.summary is not None and json.loads(outcome.summary.read_bytes())["payload"]
    verify_log(hub_home.log_folder, load_public_key(hub_home.public_key))
    again = send(bundle, site, Quiet(), QUICK)
    assert (again.state, again.bytes_sent) == ("accepted", 0)
    assert list(hub_home.uploads.iterdir()) == []
    assert hub.stop() == 0


def test_a_site_that_is_interrupted_goes_on_where_it_was(
    hub: ThreadHub, site: SiteHome, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(bundle, site, Quiet(interrupt), QUICK)
    total = sum(path.stat().st_size for path in bundle.iterdir())
    outcome = send(bundle, site, Quiet(), replace(QUICK, wait=False))
    assert outcome.state in ("uploaded", "quarantined", "verified", "accepted")
    assert 0 < outcome.bytes_sent < total - 15 * 4000


def test_an_answer_that_was_lost_is_no_reason_to_send_all_again(
    hub_home: HubHome, site: SiteHome, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has rejected the bundle, and deleted it, before the site asks again."""
    with hub_home.config_file.open("a") as file:
        file.write('[require]\n"patient_linkage.residual" = "<=0.0001"\n')
    hub = ThreadHub(hub_home).start()
    admit(hub_home, site, hub.port)
    original, lost = HubClient.call, 0

    def losing(self: HubClient, method: str, path: str, *more: Any, **fields: Any) -> Any:
        nonlocal lost
        answer = original(self, method, path, *more, **fields)
        if path.endswith("/finish") and not lost:
            lost += 1
            while list(hub_home.uploads.iterdir()):
                time.sleep(0.05)
            raise HubUnreachableError("the answer was lost")
        return answer

    monkeypatch.setattr(HubClient, "call", losing)
    outcome = send(bundle, site, Quiet(), QUICK)
    assert (lost, outcome.state) == (1, "rejected")
    assert outcome.bytes_sent == sum(path.stat().st_size for path in bundle.iterdir())
    hub.stop()


def test_a_slow_link_is_no_dead_one(hub_home: HubHome, site: SiteHome, bundle: Path) -> None:
    """Each piece takes longer than the hub waits for a byte, and no byte takes so long."""
    with hub_home.config_file.open("a") as file:
        file.write("[uploads]\nstall_s = 1.0\n")
    hub = ThreadHub(hub_home).start()
    admit(hub_home, site, hub.port)
    with CuttingProxy(hub.port, pause_s=0.15) as slow:
        through(site, slow.port)
        view = Quiet()
        outcome = send(bundle, site, view, replace(QUICK, wait=False))
    assert view.said == []  # none was given up
    assert outcome.bytes_sent == sum(path.stat().st_size for path in bundle.iterdir())
    assert outcome.seconds > 1.0
    hub.stop()


def test_a_connection_that_stands_still_is_given_up_and_what_came_is_kept(
    hub_home: HubHome, site: SiteHome, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_home.config_file.open("a") as file:
        file.write("[uploads]\nstall_s = 0.3\n")
    hub = ThreadHub(hub_home).start()
    admit(hub_home, site, hub.port)
    original, begins = HubClient.send_piece, []

    def noted(self: HubClient, path: str, offset: int, *more: Any) -> int:
        begins.append((path, offset))
        return original(self, path, offset, *more)

    monkeypatch.setattr(HubClient, "send_piece", noted)
    limits = iter([60_000, 70_000])
    with CuttingProxy(hub.port, lambda: next(limits, None), hang_s=1.5) as hanging:
        through(site, hanging.port)
        outcome = send(bundle, site, Quiet(), replace(QUICK, wait=False, connections=1))
        assert hanging.cuts == 2
    assert outcome.state in ("uploaded", "quarantined", "verified", "accepted")
    assert len(set(begins)) == len(begins)  # none is sent again from where it began
    hub.stop()


def _send_in_vain(client: HubClient, words: tuple[Any, ...]) -> None:
    with suppress(HubError):
        client._send(*words)


def test_a_hub_that_stops_keeps_what_has_come(hub: ThreadHub, site: SiteHome, bundle: Path) -> None:
    """A request is half done when the hub is asked to stop, and its site is silent."""
    box = Outbox.open(site, bundle, site.load_key().public)
    data = (bundle / "shard-00000.h5").read_bytes()
    came, stopped = threading.Event(), threading.Event()

    def half() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        came.set()
        stopped.wait(30)
        raise httpx.WriteError("gone")

    with HubClient(HubLink.load(site), site.load_key(), lambda _: None) as client:
        upload = client.call("POST", "/uploads", box.offer.to_document()).json()["upload_id"]
        path = f"/uploads/{upload}/shard-00000.h5"
        fields = {"Content-Length": str(len(data)), "Upload-Offset": "0"} | PIECE
        words = ("PATCH", path, data, fields, half())
        sending = threading.Thread(target=_send_in_vain, args=(client, words))
        sending.start()
        assert came.wait(30)
        time.sleep(0.3)
        hub.stop()
        stopped.set()
        sending.join(30)
        hub.start()
        assert client.offset(f"/uploads/{upload}", "shard-00000.h5") == len(data) // 2


def test_the_hub_may_move_and_renew_its_certificate(
    hub: ThreadHub, site: SiteHome, bundle: Path
) -> None:
    before = HubLink.load(site).certificate
    hub.stop()
    tls.write_certificate(hub.home.certificate, hub.home.certificate_key, "https://new.test")
    moved = ThreadHub(hub.home).start()
    through(site, moved.port)
    assert send(bundle, site, Quiet(), replace(QUICK, wait=False)).bytes_sent > 700_000
    after = HubLink.load(site).certificate
    assert after == hub.home.certificate.read_text() != before
    moved.stop()
    hub.start()


def test_another_hub_at_the_same_address_gets_nothing(
    hub: ThreadHub, site: SiteHome, bundle: Path, tmp_path: Path
) -> None:
    impostor = HubHome(tmp_path / "impostor")
    impostor.initialise("Hub of the tests", "https://localhost:8443")
    served = ThreadHub(impostor).start()
    through(site, served.port)
    with pytest.raises(HubTrustError, match="another fingerprint"):
        send(bundle, site, Quiet(), QUICK)
    assert list(impostor.uploads.iterdir()) == []
    served.stop()


def test_a_rejected_bundle_is_said_so_with_its_reason(
    hub_home: HubHome, site: SiteHome, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub_home.config_file.open("a") as file:
        file.write('[require]\n"patient_linkage.residual" = "<=0.0001"\n')
    hub = ThreadHub(hub_home).start()
    admit(hub_home, site, hub.port)
    view = Quiet()
    outcome = send(bundle, site, view, QUICK)
    assert (outcome.state, outcome.reason, outcome.exit_code) == (
        "rejected", "requirement_not_met", 1,
    )  # fmt: skip
    assert "the hub: uploaded" in view.said or "the hub: quarantined" in view.said
    assert show_sent(outcome, as_json=False) == 1
    assert "requirement_not_met" in capsys.readouterr().out
    assert show_sent(outcome, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "rejected"
    hub.stop()


def test_nothing_about_the_site_s_folders_reaches_the_hub(
    hub: ThreadHub, site: SiteHome, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    original = HubClient._send

    def noted(self: HubClient, method: str, path: str, body: bytes, fields: Any, *more: Any) -> Any:
        sent.append(
            f"{method} {path} {dict(fields)}".encode() + (body if len(body) < 9000 else b"")
        )
        return original(self, method, path, body, fields, *more)

    monkeypatch.setattr(HubClient, "_send", noted)
    send(bundle, site, Quiet(), replace(QUICK, wait=False))
    assert len(sent) > 8
    for piece in sent:
        assert str(bundle).encode() not in piece and str(site.folder).encode() not in piece
        assert b"PRIVATE" not in piece


def test_a_hub_that_does_not_answer_is_given_up_when_told_so(
    hub: ThreadHub, site: SiteHome, bundle: Path
) -> None:
    through(site, 1)
    with pytest.raises(HubUnreachableError):
        send(bundle, site, Quiet(), SendSettings(give_up_after_s=0.0))


def test_a_revoked_site_is_told_and_does_not_try_for_ever(
    hub: ThreadHub, site: SiteHome, bundle: Path
) -> None:
    with Acts.opened(hub.home, "operator") as acts:
        acts.revoke("hospital-a", "left")
    with pytest.raises(MembershipError) as told:
        send(bundle, site, Quiet(), SendSettings())
    assert told.value.reason == Refusal.REVOKED


@pytest.mark.parametrize("fault", ["changed", "missing", "foreign", "none"])
def test_what_is_no_whole_bundle_of_this_site_is_not_sent(
    hub: ThreadHub, site: SiteHome, bundle: Path, tmp_path: Path, fault: str
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    shard = copy / "shard-00002.h5"
    sender = site
    if fault == "changed":
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    elif fault == "missing":
        shard.unlink()
    elif fault == "none":
        shutil.rmtree(copy)
    else:
        sender = SiteHome(tmp_path / "other")
        sender.initialise("hospital-b")
        admit(hub.home, sender, hub.port)
    with pytest.raises(DigestError if fault in ("changed", "missing") else BundleError):
        send(copy, sender, Quiet(), QUICK)
    registry = hub.home.registry()
    with registry.reading() as session:
        assert session.query(Cohort).count() == 0
    registry.close()


def test_pieces_follow_the_link() -> None:
    piece = PieceSize(limit=8 << 20)
    for _ in range(10):
        piece.took(piece.bytes, 0.1)
    assert piece.bytes == 8 << 20
    for _ in range(3):
        piece.failed()
    assert piece.bytes == 1 << 20
    for _ in range(20):
        piece.took(piece.bytes, 1000.0)
    assert piece.bytes == 64 << 10
    assert PieceSize(limit=1000).bytes == 1000


def test_patience_waits_for_what_passes_only() -> None:
    stop = threading.Event()
    with pytest.raises(UploadError):
        Patience(None, stop).wait(UploadError("no", "", Refusal.QUOTA))
    with pytest.raises(HubUnreachableError):
        Patience(0.0, stop).wait(HubUnreachableError("gone"))
    stop.set()
    with pytest.raises(StoppedError):
        Patience(None, stop).wait(UploadError("busy", "", Refusal.LOCKED))


def test_a_team_ends_with_its_first_failure_and_does_each_item_once() -> None:
    done: list[int] = []
    work_through(range(50), lambda _stop: done.append, 4)
    assert sorted(done) == list(range(50))

    def start(stop: threading.Event) -> Any:
        def work(item: int) -> None:
            if item == 3:
                raise ValueError("three")
            stop.wait(0.01)

        return work

    with pytest.raises(ValueError, match="three"):
        work_through(range(10_000), start, 3)
