"""Joining a hub, being sure that it is the right one, and changing the key."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hub_server import tls
from hub_server.acts import Acts
from hub_server.home import HubHome
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import (
    HubTrustError,
    HubUnreachableError,
    MembershipError,
    SettingsError,
)
from pixcell_share.privacy.ledger import Ledger
from pixcell_share.progress import LineView
from pixcell_share.wire import Refusal
from pixcell_share.wire.fingerprints import readable
from site_agent.home import SiteHome
from site_agent.hub_client import HubClient
from site_agent.hub_link import HubLink, meet
from site_agent.hub_printing import show_joined, show_rotated
from site_agent.joining import JoinOutcome, JoinSettings, join
from site_agent.rotating import rotate_key
from tests.site_agent.served_hub import ThreadHub, admit

NO_WAIT = JoinSettings(wait=False, give_up_after_s=20.0)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadHub]:
    home = HubHome(tmp_path_factory.mktemp("hub") / "hub")
    home.initialise("Hub of the tests", "https://localhost:8443")
    served = ThreadHub(home).start()
    yield served
    served.stop()


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> SiteHome:
    """A site with a name of its own in each test."""
    home = SiteHome(tmp_path / "site")
    home.initialise(f"site {request.node.name[:50].replace('[', ' ').replace(']', '')}"[:60])
    return home


def fingerprint(hub: ThreadHub) -> str:
    return hub.home.load_key().key_id


def url(hub: ThreadHub) -> str:
    return f"https://127.0.0.1:{hub.port}"


def invite(hub: ThreadHub, site: SiteHome) -> str:
    with Acts.opened(hub.home, "operator") as acts:
        return acts.invite(site.config().site).code


def ask(hub: ThreadHub, site: SiteHome, code: str | None) -> JoinOutcome:
    settings = replace(NO_WAIT, code=code)
    return join(url(hub), fingerprint(hub), site, LineView(), settings)


def test_a_site_joins_and_waits_until_it_is_admitted(
    hub: ThreadHub, site: SiteHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("site_agent.joining._LOOK_EVERY_S", 0.1)
    key_id, name = site.load_key().key_id, site.config().site
    code = invite(hub, site)

    def operator() -> None:
        with Acts.opened(hub.home, "operator") as acts:
            while True:
                with suppress(Exception):
                    acts.admit(name, readable(key_id).upper())
                    return

    threading.Thread(target=operator, daemon=True).start()
    settings = JoinSettings(code=code)
    outcome = join(url(hub), readable(fingerprint(hub)), site, LineView(), settings)
    assert (outcome.status, outcome.key_id) == ("active", key_id)
    show_joined(outcome, as_json=False)
    assert readable(key_id) in capsys.readouterr().out
    assert b"PRIVATE" not in (site.folder / "hub.json").read_bytes()


def test_the_same_command_goes_on_where_it_was(hub: ThreadHub, site: SiteHome) -> None:
    code = invite(hub, site)
    assert ask(hub, site, code).status == "pending"
    assert ask(hub, site, code).status == "pending"  # the code is used up, and not needed
    assert ask(hub, site, None).status == "pending"
    with Acts.opened(hub.home, "operator") as acts:
        acts.admit(site.config().site, site.load_key().key_id)
    assert ask(hub, site, None).status == "active"


def test_what_is_pending_says_what_to_do(
    hub: ThreadHub, site: SiteHome, capsys: pytest.CaptureFixture
) -> None:
    outcome = ask(hub, site, invite(hub, site))
    show_joined(outcome, as_json=False)
    assert "pixcell-hub admit" in capsys.readouterr().out
    show_joined(outcome, as_json=True)
    assert json.loads(capsys.readouterr().out)["status"] == "pending"


def test_without_a_code_that_is_its_own_nobody_joins(hub: ThreadHub, site: SiteHome) -> None:
    with pytest.raises(SettingsError, match="does not know this site"):
        ask(hub, site, None)
    with pytest.raises(MembershipError) as told:
        ask(hub, site, "wrong")
    assert told.value.reason == Refusal.INVITATION
    assert not (site.folder / "hub.json").exists()


def test_another_fingerprint_stops_before_anything_is_said(
    hub: ThreadHub, site: SiteHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HubClient, "call", lambda *_, **__: pytest.fail("something was said"))
    with pytest.raises(HubTrustError, match="another fingerprint"):
        join(url(hub), "ab" * 32, site, LineView(), replace(NO_WAIT, code="x"))


class Interceptor:
    """Ends TLS with a certificate of its own and passes everything on, as some networks do."""

    def __init__(self, hub: ThreadHub, folder: Path) -> None:
        certificate, key = folder / "mitm.crt", folder / "mitm.key"
        tls.write_certificate(certificate, key, "https://localhost")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._hub = hub
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as near:
            far = client.wrap_socket(socket.create_connection(("127.0.0.1", self._hub.port)))
            asked = near.recv(1 << 16)
            self.seen += asked
            far.sendall(asked.replace(b"keep-alive", b"close"))
            while data := far.recv(1 << 16):
                near.sendall(data)


def test_somebody_in_between_is_found_out_before_the_code_is_said(
    hub: ThreadHub, site: SiteHome, tmp_path: Path
) -> None:
    between = Interceptor(hub, tmp_path)
    with pytest.raises(HubTrustError, match="not the one that the hub's key vouches for"):
        settings = replace(NO_WAIT, code="the-secret-code")
        join(
            f"https://127.0.0.1:{between.port}", fingerprint(hub), site, LineView(), settings
        )  # fmt: skip
    assert b"/api/v1/hub" in between.seen
    assert b"the-secret-code" not in between.seen


def test_somebody_in_between_gets_no_request_of_a_member(
    hub: ThreadHub, site: SiteHome, tmp_path: Path
) -> None:
    admit(hub.home, site, hub.port)
    between = Interceptor(hub, tmp_path)
    link = replace(HubLink.load(site), url=f"https://127.0.0.1:{between.port}")
    with HubClient(link, site.load_key(), lambda _: None) as client, pytest.raises(HubTrustError):
        client.call("GET", "/cohorts/" + "0" * 64)
    assert b"Signature" not in between.seen and b"cohorts" not in between.seen


def test_where_a_proxy_has_the_certificate_an_authority_must_vouch_for_it(
    site: SiteHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = HubHome(tmp_path / "hub")
    home.initialise("Hub of the tests", "https://localhost:8443")
    hub = ThreadHub(home, own_certificate=False).start()
    with pytest.raises(HubTrustError, match="no authority"):
        meet(url(hub), fingerprint(hub))
    monkeypatch.setenv("SSL_CERT_FILE", str(home.certificate))
    assert meet(url(hub), fingerprint(hub)).certificate == ""
    admit(home, site, hub.port)
    assert ask(hub, site, None).status == "active"
    hub.stop()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "127.0.0.1", "https://", "ftp://x", "https://h/path"]
)
def test_only_https_addresses_are_hubs(address: str) -> None:
    with pytest.raises(SettingsError, match="no address of a hub"):
        meet(address, "ab" * 32)


def test_where_nothing_answers_it_says_so() -> None:
    with pytest.raises(HubUnreachableError, match="does not answer"):
        meet("https://127.0.0.1:1", "ab" * 32)


def test_a_site_without_a_hub_is_told_to_join(site: SiteHome) -> None:
    with pytest.raises(SettingsError, match="has not joined"):
        HubLink.load(site)
    (site.folder / "hub.json").write_text("{}")
    with pytest.raises(SettingsError, match="cannot be read"):
        HubLink.load(site)


def test_a_key_is_changed_and_the_ledger_stays_with_the_first(
    hub: ThreadHub, site: SiteHome, capsys: pytest.CaptureFixture
) -> None:
    admit(hub.home, site, hub.port)
    first = site.load_key()
    hidden = site.ledger(first)._secret
    for _ in range(2):
        before = site.load_key().key_id
        outcome = rotate_key(site, give_up_after_s=20)
        assert outcome.old_key_id == before != outcome.key_id == site.load_key().key_id
        assert site.public_key.read_bytes() == site.load_key().public_pem
        assert site.private_key.stat().st_mode & 0o777 == 0o600
    assert isinstance(site.ledger(site.load_key()), Ledger)
    assert site.ledger(site.load_key())._secret == hidden
    assert ask(hub, site, None).status == "active"
    show_rotated(outcome, as_json=False)
    assert readable(outcome.key_id) in capsys.readouterr().out


def test_a_change_whose_answer_was_lost_is_gone_on_with(
    hub: ThreadHub, site: SiteHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit(hub.home, site, hub.port)
    old = site.load_key().key_id
    with monkeypatch.context() as dying:
        dying.setattr(SiteHome, "take_over", _die)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(site, give_up_after_s=20)
    assert site.load_key().key_id == old
    next_key = SiteKey.load(site.folder / "site.key.next").key_id
    assert rotate_key(site, give_up_after_s=20).key_id == next_key == site.load_key().key_id


def test_a_site_whose_key_was_revoked_joins_again_with_a_new_one(
    hub: ThreadHub, site: SiteHome
) -> None:
    admit(hub.home, site, hub.port)
    first, hidden = site.load_key(), site.ledger(site.load_key())._secret
    with Acts.opened(hub.home, "operator") as acts:
        acts.revoke_key(site.config().site, first.key_id[:8], "a laptop was stolen")
        with pytest.raises(MembershipError, match="revoked"):
            ask(hub, site, None)
        code = acts.invite(site.config().site).code
        outcome = ask(hub, site, code)
        assert outcome.status == "pending"
        assert outcome.key_id == site.load_key().key_id != first.key_id
        acts.admit(site.config().site, outcome.key_id)
    assert ask(hub, site, code).key_id == outcome.key_id, "the same command goes on"
    assert site.ledger(site.load_key())._secret == hidden


def _die(*_: object) -> None:
    raise KeyboardInterrupt
