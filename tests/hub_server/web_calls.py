"""A hub's app without a network, and callers: a site that signs, a person with a browser."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.testclient import TestClient

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.registry import Role
from hub_server.web.app import create_app, open_hub
from hub_server.web.state import HubState
from pixcell_share.bundles import SiteKey
from pixcell_share.files import canonical_json
from pixcell_share.wire import SignedParts, content_digest, sign_request

BASE = "https://hub.test"
PASSWORD = "a few random words"
CHEAP = "[accounts]\nargon2_time = 1\nargon2_memory_kib = 8\nargon2_lanes = 1\n"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}


@dataclass
class WebHub:
    """A hub that answers within this process."""

    home: HubHome
    state: HubState = field(init=False)

    def __post_init__(self) -> None:
        self.state = open_hub(self.home)
        self.app = create_app(self.state)

    def browser(self) -> TestClient:
        """Somebody with a cookie jar; a redirect is shown, not followed."""
        return TestClient(self.app, base_url=BASE, follow_redirects=False)

    def acts(self) -> Acts:
        """What the operator does."""
        return Acts(self.home, self.state.registry, self.state.config, self.state.log, "operator")

    def member(self, name: str, key: SiteKey) -> SiteCaller:
        """A site that was invited, joined and admitted."""
        code = self.acts().invite(name).code
        site = self.site(key)
        document = {"code": code, "site": name, "public_key": key.public_pem.decode()}
        assert site.call("POST", "/join", document).status_code == 202
        self.acts().admit(name, key.key_id)
        return site

    def site(self, key: SiteKey) -> SiteCaller:
        """Somebody with a key."""
        return SiteCaller(self.browser(), key, self.state.key.key_id)

    def person(self, role: Role) -> Visitor:
        """Somebody who is logged in."""
        name = f"the {role.value}"
        self.acts().add_account(name, role, password=PASSWORD)
        browser = self.browser()
        login = {"name": name, "password": PASSWORD}
        answer = browser.post("/api/v1/session", json=login)
        assert answer.status_code == 200, answer.text
        return Visitor(browser, answer.json()["csrf"])


@dataclass
class Visitor:
    """A browser with a session."""

    browser: TestClient
    csrf: str


@dataclass
class SiteCaller:
    """Signs what it sends."""

    http: TestClient
    key: SiteKey
    hub_key_id: str

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        created: float | None = None,
        signed_body: bytes | None = None,
    ) -> httpx.Response:
        """One request; ``signed_body`` and ``created`` are lies where they are given."""
        sent = dict(headers or {})
        if document is not None:
            body = canonical_json(document)
            sent["Content-Type"] = "application/json"
        sent |= self.signature(method, path, signed_body or body, sent, created)
        return self.http.request(method, f"/api/v1{path}", content=body, headers=sent)

    def signature(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        created: float | None = None,
    ) -> dict[str, str]:
        """The fields that sign a request."""
        digest = content_digest(body)
        parts = SignedParts(method, f"/api/v1{path}", "", digest, headers.get("Upload-Offset"))
        moment = int(time.time() if created is None else created)
        fields = sign_request(self.key, self.hub_key_id, parts, created=moment)
        return {**fields, "Content-Digest": digest}

    def piece(
        self,
        path: str,
        offset: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        **lies: Any,
    ) -> httpx.Response:
        """PATCH."""
        fields = {**PIECE, "Upload-Offset": str(offset), **(headers or {})}
        return self.call("PATCH", path, body=body, headers=fields, **lies)
