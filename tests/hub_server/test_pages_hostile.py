"""Strangers' words on pages, forged sessions, and forms from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from hub_server.registry import Encoder, Evaluation, Job, Role, Site
from hub_server.registry.tables import Cohort
from hub_server.web.sessions import COOKIE
from tests.hub_server.page_calls import PageHub, all_pages

SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
TURNED = "abc\u202egpj.exe"


def spoil(hub: PageHub, words: str) -> None:
    """Write words into the registry that its own functions would have refused."""
    with hub.web.state.registry.session() as session:
        rows: list[tuple[Any, Any, tuple[str, ...]]] = [
            (Site, hub.holds.pending, ("name", "contact")),
            (Cohort, hub.holds.rejected, ("reason", "detail")),
            (Cohort, hub.holds.withdrawn, ("withdrawn_by", "withdrawn_reason")),
            (Encoder, hub.holds.encoder, ("name", "arch")),
            (Job, hub.holds.failed, ("error",)),
        ]
        for kind, key, fields in rows:
            row = session.get_one(kind, key)
            for field in fields:
                setattr(row, field, words)
        session.get_one(Job, hub.holds.training).progress = {"step": 1, "steps": 2, words: words}
        accepted = session.get_one(Cohort, hub.holds.accepted)
        assert accepted.manifest is not None
        stated = accepted.manifest["predicate"]
        stated["classes"][0]["name"] = stated["models"][0]["licence"] = words
        accepted.manifest = {**accepted.manifest, "predicate": dict(stated)}
        accepted.counts, accepted.licences = {words: 24}, [words]
        for result in session.query(Evaluation).limit(3):
            result.dataset = words
    hub.web.state.log.append("site.join", actor=words, subject=words, details={"reason": words})


def test_words_of_strangers_stay_words(page_hub: PageHub) -> None:
    spoil(page_hub, SCRIPT)
    reader = page_hub.person(Role.OPERATOR)
    shown = 0
    for path in all_pages(page_hub):
        page = reader.text(path)
        assert "<script>alert" not in page and "<img src=x" not in page, path
        shown += page.count("&lt;script&gt;alert(1)")
    assert shown > 15


def test_a_name_that_turns_text_around_turns_only_itself(page_hub: PageHub) -> None:
    spoil(page_hub, TURNED)
    reader = page_hub.person(Role.OPERATOR)
    for path in (f"/sites/{page_hub.holds.pending}", "/withdrawals", "/log"):
        page = reader.text(path)
        body = page.partition("<main")[2]
        assert body.count(TURNED) > 0, path
        assert body.count(TURNED) == body.count(f"<bdi>{TURNED}</bdi>"), path


@pytest.mark.parametrize(
    "path",
    [
        "/log?text={}&about={}",
        "/cohorts?site={}&tissue={}",
        "/leaderboard?by={}&task={}",
        "/jobs?kind={}",
        "/login?next=/{}&error={}",
        "/cohorts/{}",
        "/encoders/{}",
        "/jobs/{}",
        "/sites/{}",
        "/accounts/{}",
        "/{}",
        "/?note={}",
    ],
)
def test_nothing_of_an_address_becomes_markup(read_hub: PageHub, path: str) -> None:
    for reader in (read_hub.person(Role.OPERATOR), read_hub.stranger()):
        page = reader.get(path.replace("{}", "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E")).text
        assert "<script>alert" not in page


def test_a_stranger_is_sent_to_the_login_and_back(read_hub: PageHub) -> None:
    reader = read_hub.stranger()
    answer = reader.get("/log?about=site")
    assert answer.headers["Location"] == "/login?next=%2Flog%3Fabout%3Dsite"
    page = reader.text(answer.headers["Location"])
    assert 'name="next" value="/log?about=site"' in page
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        assert 'name="next" value="/"' in reader.text(f"/login?next={elsewhere}")


@pytest.mark.parametrize("token", ["x", "0" * 43, "../../hub.key", "ä", '"; DROP TABLE sessions'])
def test_a_forged_session_is_none(read_hub: PageHub, token: str) -> None:
    read_hub.person(Role.OPERATOR)
    browser = read_hub.web.browser()
    cookie = f"{COOKIE}={token}".encode("latin-1")
    answer = browser.get("/sites", headers={b"Cookie": cookie})  # type: ignore[dict-item]
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login")


def test_a_form_from_elsewhere_is_not_taken(read_hub: PageHub) -> None:
    reader = read_hub.person(Role.OPERATOR)
    path, fields = f"/jobs/{read_hub.holds.training}/cancel", {"csrf": reader.visitor.csrf}
    browser = reader.visitor.browser
    for sent, headers in (
        ({}, {}),
        ({"csrf": ""}, {}),
        ({"csrf": read_hub.person(Role.AUDITOR).visitor.csrf}, {}),
        (fields, {"Origin": "https://evil.example"}),
        (fields, {"Sec-Fetch-Site": "cross-site"}),
    ):
        answer = browser.post(path, data=sent, headers=headers)
        assert answer.status_code == 403
        assert "The form was not taken" in answer.text
    assert "running" in reader.words(f"/jobs/{read_hub.holds.training}")


def test_an_error_is_a_page_with_a_way_on(read_hub: PageHub) -> None:
    answer = read_hub.person(Role.RESEARCHER).get("/sites")
    assert answer.status_code == 403
    assert "Not for your role" in answer.text and 'href="/"' in answer.text
    assert read_hub.person(Role.OPERATOR).get("/nowhere").status_code == 404


def test_static_files_are_ours_only_and_kept_for_long(read_hub: PageHub) -> None:
    reader = read_hub.stranger()
    style = reader.get("/static/hub.css")
    assert "immutable" in style.headers["Cache-Control"]
    assert "http" not in style.text and "@import" not in style.text
    for wrong in ("app.py", "..%2fapp.py", "hub.css%00", "%2e%2e%2fpages%2f__init__.py"):
        assert reader.get(f"/static/{wrong}").status_code == 404
