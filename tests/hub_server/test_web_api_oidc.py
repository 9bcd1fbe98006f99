"""Logging in with an identity provider, and with tokens that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from starlette.testclient import TestClient

from hub_server.registry import Role
from hub_server.web.sessions import COOKIE
from pixcell_share.errors import KeyFileError
from pixcell_share.wire import Refusal
from tests.hub_server.oidc_provider import CLIENT, SECRET, SUBJECT, Provider
from tests.hub_server.web_calls import BASE, WebHub

NAME = "the auditor"


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Its certificate is trusted, as a hospital's own authority is."""
    found = Provider(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(found.certificate))
    yield found
    found.close()


@pytest.fixture
def hub(web_hub: WebHub, provider: Provider, tmp_path: Path) -> WebHub:
    """With the provider in its settings, and an account for the person."""
    secret = tmp_path / "client.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    with web_hub.home.config_file.open("a") as file:
        file.write(
            f'[oidc]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\n'
            f'client_secret_file = "{secret}"\n'
        )
    web_hub.state.registry.close()
    hub = WebHub(web_hub.home)
    hub.acts().add_account(NAME, Role.AUDITOR, oidc_subject=SUBJECT)
    return hub


def go(browser: TestClient, provider: Provider) -> Any:
    """Through the provider and back."""
    start = browser.get("/login/oidc")
    assert start.status_code == 302
    assert start.headers["Location"].startswith(f"{provider.issuer}/authorize?")
    back = provider.log_in(start.headers["Location"])
    assert back.startswith(f"{BASE}/login/oidc/callback?")
    return browser.get(back)


def test_a_person_whom_the_provider_knows_is_logged_in(hub: WebHub, provider: Provider) -> None:
    browser = hub.browser()
    answer = go(browser, provider)
    # A page, not a redirect: with a redirect the browser would keep the strict cookie back.
    assert answer.status_code == 200 and 'content="0;url=/"' in answer.text
    assert any(COOKIE + "=" in c and "SameSite=strict" in c
               for c in answer.headers.get_list("Set-Cookie"))  # fmt: skip
    said = browser.get("/api/v1/session").json()
    assert (said["name"], said["role"]) == (NAME, "auditor")


def refused(answer: Any) -> bool:
    """No session, and the same words whatever was wrong."""
    return (
        answer.status_code == 403
        and answer.json()["error"]["code"] == Refusal.FORBIDDEN
        and COOKIE + "=" not in answer.headers.get("Set-Cookie", "")
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda claims: claims.update(iss="https://evil.test"),
        lambda claims: claims.update(aud="another-client"),
        lambda claims: claims.update(nonce="another"),
        lambda claims: claims.update(exp=1),
        lambda claims: claims.update(sub="somebody else"),
        lambda claims: claims.pop("sub"),
        lambda claims: claims.pop("nonce"),
    ],
    ids=["issuer", "audience", "nonce", "expired", "stranger", "nobody", "no nonce"],
)
def test_a_token_that_says_something_else_logs_nobody_in(
    hub: WebHub, provider: Provider, spoil: Callable[[dict[str, Any]], None]
) -> None:
    provider.spoil = spoil
    assert refused(go(hub.browser(), provider))


def test_a_token_of_another_key_logs_nobody_in(hub: WebHub, provider: Provider) -> None:
    provider.signer = ECKey.generate_key("P-256", {"kid": "one"})
    assert refused(go(hub.browser(), provider))


def test_an_answer_counts_for_the_browser_that_asked_and_once(
    hub: WebHub, provider: Provider
) -> None:
    asked, other = hub.browser(), hub.browser()
    back = provider.log_in(asked.get("/login/oidc").headers["Location"])
    assert refused(other.get(back))  # somebody else's code, slipped into a browser
    assert provider.redeemed == []
    assert asked.get(back).status_code == 200
    assert refused(asked.get(back))


def test_a_closed_account_stays_closed(hub: WebHub, provider: Provider) -> None:
    hub.acts().disable_account(NAME)
    assert refused(go(hub.browser(), provider))


def test_a_provider_that_is_away_is_said_so(hub: WebHub, provider: Provider) -> None:
    provider.close()
    answer = hub.browser().get("/login/oidc")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, Refusal.UNAVAILABLE)


def test_a_hub_without_a_provider_has_no_such_page(web_hub: WebHub) -> None:
    assert web_hub.browser().get("/login/oidc").status_code == 404


def test_a_secret_that_others_can_read_is_refused(hub: WebHub, tmp_path: Path) -> None:
    (tmp_path / "client.secret").chmod(0o644)
    with pytest.raises(KeyFileError, match="readable by others"):
        WebHub(hub.home)
    (tmp_path / "client.secret").unlink()
    with pytest.raises(KeyFileError, match="cannot be read"):
        WebHub(hub.home)
