"""Forms: each does what the command line does, says so once, and stands in the log."""

from __future__ import annotations

import re

import pytest

from hub_server.registry import Role, SiteState, accounts, sites
from hub_server.registry.accounts import LoggedIn
from tests.hub_server.page_calls import PageHub, plain
from tests.hub_server.page_hub import SITE
from tests.hub_server.web_calls import PASSWORD

NEW_PASSWORD = "other random words"


def latest(hub: PageHub) -> tuple[str, str, str]:
    """What was done last, by whom, to whom."""
    act = hub.web.state.log.latest(1)[0]
    return act.act, act.actor, act.subject


def log_in(hub: PageHub, name: str, password: str) -> LoggedIn | None:
    return accounts.log_in(hub.web.state.registry, name, password, hub.web.state.config.accounts)


def account_id(hub: PageHub, name: str) -> str:
    with hub.web.state.registry.reading() as session:
        return accounts.find_account(session, name).id


def test_an_invitation_is_shown_once_and_works(page_hub: PageHub) -> None:
    operator = page_hub.person(Role.OPERATOR)
    page = operator.send("/sites/invite", name=" Klinikum Nord ", contact="Frau Berg")
    code = re.search(r'<code class="secret">([a-z0-9-]+)</code>', page)
    assert code is not None
    assert f"pixcell-site join {page_hub.web.state.config.url} --code {code[1]}" in page
    assert latest(page_hub) == ("site.invite", "account:the operator", "Klinikum Nord")
    assert code[1] not in operator.text("/sites")
    assert code[1].encode() not in (page_hub.web.home.log_folder / "acts.jsonl").read_bytes()
    key = page_hub.web.state.key.public_pem  # any key will do
    assert page_hub.web.acts().join(code[1], "Klinikum Nord", key).key_id


def test_a_note_is_for_the_one_who_sent_the_form(page_hub: PageHub) -> None:
    operator, auditor = page_hub.person(Role.OPERATOR), page_hub.person(Role.AUDITOR)
    fields = {"csrf": operator.visitor.csrf, "name": "Klinikum Nord"}
    where = operator.visitor.browser.post("/sites/invite", data=fields).headers["Location"]
    assert "--code" not in auditor.text(where)
    assert "--code" in operator.text(where)
    assert "--code" not in operator.text(where)


@pytest.mark.parametrize("name", ["", "<script>", "Uniklinik K\u200böln", SITE, SITE.upper()])
def test_a_name_that_cannot_be_is_said_to_be_so(page_hub: PageHub, name: str) -> None:
    operator = page_hub.person(Role.OPERATOR)
    page = operator.send("/sites/invite", name=name or " ", contact="kept")
    assert 'role="alert"' in page
    assert 'name="contact" maxlength="200" value="kept"' in page
    assert latest(page_hub)[0] != "site.invite"


def test_a_site_is_admitted_by_its_fingerprint_only(page_hub: PageHub) -> None:
    operator, pending = page_hub.person(Role.OPERATOR), page_hub.holds.pending
    wrong = operator.send(f"/sites/{pending}/admit", fingerprint="ab" * 32)
    assert "has another fingerprint" in wrong
    assert f'value="{"ab" * 32}"' in wrong
    typed = " ".join(re.findall("....", page_hub.holds.pending_key)).upper()
    page = plain(operator.send(f"/sites/{pending}/admit", fingerprint=typed))
    assert "Hôpital Saint-Louis is a member." in page
    assert latest(page_hub) == ("site.admit", "account:the operator", "Hôpital Saint-Louis")
    with page_hub.web.state.registry.reading() as session:
        assert sites.find_site(session, "Hôpital Saint-Louis").status is SiteState.ACTIVE


def test_a_key_is_declined_and_a_membership_ended_for_a_reason(page_hub: PageHub) -> None:
    operator, pending = page_hub.person(Role.OPERATOR), page_hub.holds.pending
    assert "reason is missing" in operator.send(f"/sites/{pending}/decline", reason="  ")
    page = plain(operator.send(f"/sites/{pending}/decline", reason="nobody answers there"))
    assert "declined" in page and "nobody answers there" in page
    assert latest(page_hub)[0] == "site.decline"
    page = plain(operator.send(f"/sites/{pending}/revoke", reason="a mistake"))
    assert "The membership of Hôpital Saint-Louis is over." in page
    assert latest(page_hub)[0] == "site.revoke"
    assert "is revoked already" in operator.send(f"/sites/{pending}/revoke", reason="again")


def test_one_key_of_a_member_is_revoked(page_hub: PageHub) -> None:
    operator = page_hub.person(Role.OPERATOR)
    with page_hub.web.state.registry.reading() as session:
        site = sites.find_site(session, SITE)
        (key,) = site.keys
    assert "Revoke one key" not in page_hub.person(Role.AUDITOR).words(f"/sites/{site.id}")
    address = f"/sites/{site.id}/revoke-key"
    assert "reason is missing" in operator.send(address, key=key.key_id, reason=" ")
    page = plain(operator.send(address, key=key.key_id, reason="a laptop was stolen"))
    assert "It was the last: invite the site again" in page
    assert "Revoke one key" not in page
    assert latest(page_hub) == ("site.revoke_key", "account:the operator", SITE)


def test_a_cohort_is_withdrawn_for_a_reason(page_hub: PageHub) -> None:
    operator, accepted = page_hub.person(Role.OPERATOR), page_hub.holds.accepted
    assert "reason is missing" in operator.send(f"/cohorts/{accepted}/withdraw", reason=" \n ")
    page = plain(operator.send(f"/cohorts/{accepted}/withdraw", reason="consent\u202e withdrawn"))
    assert "Trained on it: 1 encoder, listed below." in page
    assert "by account:the operator : consent withdrawn" in page  # what turns text is gone
    assert latest(page_hub) == ("cohort.withdrawn", "account:the operator", accepted)
    assert "Withdraw it" not in operator.words(f"/cohorts/{accepted}")


def test_a_job_is_cancelled_once(page_hub: PageHub) -> None:
    operator, job = page_hub.person(Role.OPERATOR), page_hub.holds.training
    assert "The job is cancelled." in operator.send(f"/jobs/{job}/cancel")
    assert latest(page_hub) == ("job.cancel", "account:the operator", job)
    assert "nothing is left to cancel" in operator.send(f"/jobs/{job}/cancel").lower()


def test_an_account_is_made_changed_closed_and_opened(page_hub: PageHub) -> None:
    operator = page_hub.person(Role.OPERATOR)
    fields = {"name": "Anna Berg", "role": "researcher"}
    short = operator.send("/accounts", **fields, password="short")
    assert "must have 12 to 1024 characters" in short and 'value="Anna Berg"' in short
    assert "Anna Berg has an account." in operator.send("/accounts", **fields, password=PASSWORD)
    own = f"/accounts/{account_id(page_hub, 'Anna Berg')}"
    assert log_in(page_hub, "Anna Berg", PASSWORD)
    operator.send(f"{own}/role", role="auditor")
    assert latest(page_hub) == ("account.role", "account:the operator", "Anna Berg")
    operator.send(f"{own}/password", password=NEW_PASSWORD)
    assert log_in(page_hub, "Anna Berg", PASSWORD) is None
    assert log_in(page_hub, "Anna Berg", NEW_PASSWORD)
    assert "is closed" in operator.send(f"{own}/disable")
    assert log_in(page_hub, "Anna Berg", NEW_PASSWORD) is None
    assert "is open again" in operator.send(f"{own}/enable")
    found = log_in(page_hub, "Anna Berg", NEW_PASSWORD)
    assert found is not None and found.account.role is Role.AUDITOR
    for password in (PASSWORD, NEW_PASSWORD):
        assert password.encode() not in (page_hub.web.home.log_folder / "acts.jsonl").read_bytes()


def test_nobody_closes_the_own_account(page_hub: PageHub) -> None:
    operator = page_hub.person(Role.OPERATOR)
    own = f"/accounts/{account_id(page_hub, 'the operator')}"
    assert f'action="{own}/disable"' not in operator.text(own)
    assert "your own account" in operator.send(f"{own}/disable")
    assert log_in(page_hub, "the operator", PASSWORD)


@pytest.mark.parametrize("role", list(Role))
def test_everybody_changes_the_own_password(page_hub: PageHub, role: Role) -> None:
    reader, name = page_hub.person(role), f"the {role.value}"
    twice = {"password": NEW_PASSWORD, "again": NEW_PASSWORD}
    assert "is wrong" in reader.send("/account/password", current="a guess", **twice)
    differ = {"password": NEW_PASSWORD, "again": "something else"}
    assert "differ" in reader.send("/account/password", current=PASSWORD, **differ)
    elsewhere = log_in(page_hub, name, PASSWORD)
    assert elsewhere is not None
    assert "You have a new password." in reader.send("/account/password", current=PASSWORD, **twice)
    assert latest(page_hub) == ("account.password", f"account:{name}", name)
    assert log_in(page_hub, name, NEW_PASSWORD)
    with page_hub.web.state.registry.reading() as session:
        assert accounts.who(session, elsewhere.token) is None
