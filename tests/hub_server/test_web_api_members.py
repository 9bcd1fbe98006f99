"""Joining, admission, rotation and revocation over the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub_server.web.throttle import Rate, Throttle
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal
from pixcell_share.wire.rotation import Rotation
from tests.hub_server.web_calls import SiteCaller, WebHub


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def ask_to_join(site: SiteCaller, code: str, name: str = "hospital-b") -> Any:
    document = {"code": code, "site": name, "public_key": site.key.public_pem.decode()}
    return site.call("POST", "/join", document)


def test_a_site_is_pending_until_it_is_admitted(web_hub: WebHub, other_key: SiteKey) -> None:
    code, site = web_hub.acts().invite("hospital-b").code, web_hub.site(other_key)
    answer = ask_to_join(site, code)
    assert answer.status_code == 202
    assert answer.json() == {
        "site": "hospital-b", "key_id": other_key.key_id, "status": "pending"
    }  # fmt: skip
    assert site.call("GET", f"/join/{other_key.key_id}").json()["status"] == "pending"
    assert code_of(site.call("GET", "/cohorts/" + "0" * 64)) == (403, Refusal.PENDING)
    web_hub.acts().admit("hospital-b", other_key.key_id)
    assert site.call("GET", f"/join/{other_key.key_id}").json()["status"] == "active"
    acts = [act.act for act in web_hub.state.log.latest(10)]
    assert acts == ["site.admit", "site.join", "site.invite"]


def test_a_code_is_for_one_site_and_for_once(
    web_hub: WebHub, key: SiteKey, other_key: SiteKey
) -> None:
    code = web_hub.acts().invite("hospital-b").code
    assert code_of(ask_to_join(web_hub.site(key), "wrong")) == (403, Refusal.INVITATION)
    assert code_of(ask_to_join(web_hub.site(key), code, "hospital-c")) == (403, Refusal.INVITATION)
    assert ask_to_join(web_hub.site(key), code).status_code == 202
    assert code_of(ask_to_join(web_hub.site(other_key), code)) == (403, Refusal.INVITATION)


def test_the_request_must_be_signed_with_the_key_that_it_brings(
    web_hub: WebHub, key: SiteKey, other_key: SiteKey
) -> None:
    code, site = web_hub.acts().invite("hospital-b").code, web_hub.site(key)
    document = {"code": code, "site": "hospital-b", "public_key": other_key.public_pem.decode()}
    assert code_of(site.call("POST", "/join", document)) == (401, Refusal.SIGNATURE)
    assert ask_to_join(site, code).status_code == 202  # and the code was not used up


def test_a_private_key_is_refused_and_said_to_be_exposed(
    web_hub: WebHub, key: SiteKey, tmp_path: Path
) -> None:
    SiteKey.create(tmp_path / "k")
    document = {"code": "x", "site": "hospital-b", "public_key": (tmp_path / "k").read_text()}
    answer = web_hub.site(key).call("POST", "/join", document)
    assert code_of(answer) == (422, Refusal.MALFORMED)
    assert "make a new one" in answer.json()["error"]["remedy"]


def test_codes_cannot_be_guessed_quickly(web_hub: WebHub, key: SiteKey) -> None:
    site = web_hub.site(key)
    answers = [ask_to_join(site, f"guess-{n}") for n in range(11)]
    assert {code_of(answer) for answer in answers[:10]} == {(403, Refusal.INVITATION)}
    assert code_of(answers[10]) == (429, Refusal.TOO_MANY)
    assert answers[10].headers["Retry-After"]


def test_a_key_is_replaced_by_one_that_it_signed(
    member: SiteCaller, web_hub: WebHub, other_key: SiteKey
) -> None:
    rotation = Rotation.sign(member.key, other_key, member.hub_key_id)
    answer = member.call("POST", "/keys", vars(rotation))
    assert answer.json()["key_id"] == other_key.key_id
    assert code_of(member.call("GET", f"/join/{member.key.key_id}")) == (403, Refusal.REVOKED)
    new = web_hub.site(other_key)
    assert new.call("GET", f"/join/{other_key.key_id}").json()["status"] == "active"
    assert web_hub.state.log.latest(1)[0].act == "site.rotate"


def test_a_rotation_by_another_key_is_refused(
    member: SiteCaller, other_key: SiteKey, tmp_path: Path
) -> None:
    stranger = SiteKey.create(tmp_path / "stranger.key")
    rotation = Rotation.sign(stranger, other_key, member.hub_key_id)
    answer = member.call("POST", "/keys", vars(rotation))
    assert code_of(answer) == (401, Refusal.SIGNATURE)
    assert member.call("GET", f"/join/{member.key.key_id}").status_code == 200


def test_a_revoked_site_is_shut_out_at_once(member: SiteCaller, web_hub: WebHub) -> None:
    assert member.call("GET", f"/join/{member.key.key_id}").status_code == 200
    web_hub.acts().revoke("hospital-a", "left the consortium")
    answer = member.call("GET", f"/join/{member.key.key_id}")
    assert code_of(answer) == (403, Refusal.REVOKED)


def test_a_site_asks_for_its_own_key_only(member: SiteCaller, other_key: SiteKey) -> None:
    answer = member.call("GET", f"/join/{other_key.key_id}")
    assert code_of(answer) == (403, Refusal.FORBIDDEN)


def test_a_throttle_forgets_with_time_and_with_success() -> None:
    now = [0.0]
    throttle = Throttle(Rate(2, 60.0), clock=lambda: now[0])
    for _ in range(2):
        throttle.check("a")
        throttle.count("a")
    with pytest.raises(HubError, match="too many"):
        throttle.check("a")
    throttle.check("b")
    now[0] = 61.0
    throttle.check("a")
    throttle.count("a")
    throttle.count("a")
    throttle.forget("a")
    throttle.check("a")
