"""Logging in and out: cookies, throttling, forms from elsewhere, forged sessions."""

from __future__ import annotations

from typing import Any

import pytest

from hub_server.registry import Role
from hub_server.web.api.session import local_page
from hub_server.web.sessions import COOKIE, CSRF_HEADER
from pixcell_share.wire import Refusal
from tests.hub_server.web_calls import BASE, PASSWORD, WebHub

NAME = "the auditor"
SESSION = "/api/v1/session"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def hub(web_hub: WebHub) -> WebHub:
    """With an account."""
    web_hub.acts().add_account(NAME, Role.AUDITOR, password=PASSWORD)
    return web_hub


def test_a_session_is_begun_looked_at_and_ended(hub: WebHub) -> None:
    browser = hub.browser()
    answer = browser.post(SESSION, json={"name": NAME, "password": PASSWORD})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
        assert word in cookie
    assert "Domain" not in cookie
    said = browser.get(SESSION).json()
    assert said == {"name": NAME, "role": "auditor", "csrf": answer.json()["csrf"]}
    token = browser.cookies[COOKIE]
    assert browser.delete(SESSION, headers={CSRF_HEADER: said["csrf"]}).status_code == 204
    thief = hub.browser()
    thief.cookies.set(COOKIE, token, domain="hub.test")
    assert code_of(thief.get(SESSION)) == (401, Refusal.LOGIN)  # ended for whoever has it


def test_the_token_itself_is_kept_nowhere(hub: WebHub) -> None:
    browser = hub.browser()
    browser.post(SESSION, json={"name": NAME, "password": PASSWORD})
    token = browser.cookies[COOKIE].encode()
    hub.state.registry.close()
    files = [path for path in hub.home.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not any(token in path.read_bytes() for path in files)


@pytest.mark.parametrize("token", ["", "x", "0" * 43, "' OR 1=1 --", "a" * 5000])
def test_a_forged_session_is_none(hub: WebHub, token: str) -> None:
    answer = hub.browser().get(SESSION, headers={"Cookie": f"{COOKIE}={token}"})
    assert code_of(answer) == (401, Refusal.LOGIN)


def test_a_closed_account_is_out_at_once(hub: WebHub) -> None:
    browser = hub.browser()
    browser.post(SESSION, json={"name": NAME, "password": PASSWORD})
    hub.acts().disable_account(NAME)
    assert code_of(browser.get(SESSION)) == (401, Refusal.LOGIN)
    again = browser.post(SESSION, json={"name": NAME, "password": PASSWORD})
    assert code_of(again) == (401, Refusal.LOGIN)


def test_a_wrong_name_and_a_wrong_password_are_told_the_same(hub: WebHub) -> None:
    wrong = [{"name": NAME, "password": "x"}, {"name": "nobody", "password": PASSWORD}]
    first, second = (hub.browser().post(SESSION, json=login) for login in wrong)
    assert code_of(first) == (401, Refusal.LOGIN)
    assert first.content == second.content
    assert "Set-Cookie" not in first.headers


def test_guessing_is_slowed_down_for_this_address_and_account_only(hub: WebHub) -> None:
    browser = hub.browser()
    hub.acts().add_account("somebody else", Role.AUDITOR, password=PASSWORD)
    answers = [browser.post(SESSION, json={"name": NAME, "password": "x"}) for _ in range(11)]
    assert code_of(answers[9]) == (401, Refusal.LOGIN)
    assert code_of(answers[10]) == (429, Refusal.TOO_MANY)
    right = {"name": NAME, "password": PASSWORD}
    assert code_of(browser.post(SESSION, json=right)) == (429, Refusal.TOO_MANY)
    other = {"name": "somebody else", "password": PASSWORD}
    assert browser.post(SESSION, json=other).status_code == 200


def test_the_form_leads_on_or_back(hub: WebHub) -> None:
    browser = hub.browser()
    form = {"name": NAME, "password": "x", "next": "/cohorts"}
    back = browser.post("/login", data=form)
    assert (back.status_code, back.headers["Location"]) == (303, "/login?error=wrong")
    on = browser.post("/login", data={**form, "password": PASSWORD})
    assert (on.status_code, on.headers["Location"]) == (303, "/cohorts")
    csrf = browser.get(SESSION).json()["csrf"]
    assert browser.post("/logout", data={"csrf": "wrong"}).status_code == 403
    out = browser.post("/logout", data={"csrf": csrf})
    assert (out.status_code, out.headers["Location"]) == (303, "/login")
    assert browser.get(SESSION).status_code == 401


@pytest.mark.parametrize(
    "page",
    ["https://evil.test/", "//evil.test/", "/\\evil.test", "\\/evil.test", "evil", "", "/a\nb"],
)
def test_a_login_leads_to_pages_of_this_hub_only(page: str) -> None:
    assert local_page(page) == "/"
    assert local_page("/cohorts?page=2") == "/cohorts?page=2"


@pytest.mark.parametrize(
    "fields",
    [{"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://hub.test"}],
)  # fmt: skip
def test_a_form_of_another_site_is_refused(hub: WebHub, fields: dict[str, str]) -> None:
    browser = hub.browser()
    login = {"name": NAME, "password": PASSWORD}
    assert code_of(browser.post(SESSION, json=login, headers=fields)) == (403, Refusal.CSRF)
    csrf = browser.post(SESSION, json=login, headers={"Origin": BASE}).json()["csrf"]
    ended = browser.delete(SESSION, headers={**fields, CSRF_HEADER: csrf})
    assert code_of(ended) == (403, Refusal.CSRF)


@pytest.mark.parametrize(
    "body", [{}, {"name": NAME}, {"name": 5, "password": "x"}, {"name": "n" * 201, "password": "x"}]
)
def test_what_is_no_login_is_refused_without_an_echo(hub: WebHub, body: dict[str, Any]) -> None:
    answer = hub.browser().post(SESSION, json=body)
    assert code_of(answer) == (422, Refusal.MALFORMED)
    assert "nnn" not in answer.text
