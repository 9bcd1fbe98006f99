"""People at the pages of a furnished hub, without a network."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import httpx

from hub_server.home import HubHome
from hub_server.registry import Role
from hub_server.web.app import create_app
from hub_server.web.pages import PAGES, error_page
from pixcell_share.bundles import SiteKey
from tests.hub_server.page_hub import OPEN, SITE, Furnished, furnish, good_bundle
from tests.hub_server.web_calls import BASE, CHEAP, Visitor, WebHub

FOR_ALL = ("/", "/cohorts", "/encoders", "/leaderboard", "/jobs", "/account")
FOR_READERS = ("/sites", "/withdrawals", "/log", "/accounts")
"""Addresses of pages."""


@dataclass
class PageHub:
    """A hub with something on each page."""

    web: WebHub
    holds: Furnished
    people: dict[Role, Reader] = field(default_factory=dict)

    def person(self, role: Role) -> Reader:
        """Somebody who is logged in; there is one of each role."""
        if role not in self.people:
            self.people[role] = Reader(self.web.person(role))
        return self.people[role]

    def stranger(self) -> Reader:
        """Somebody who is not."""
        return Reader(Visitor(self.web.browser(), ""))


@dataclass
class Reader:
    """Reads pages and sends forms, as a browser does."""

    visitor: Visitor

    def get(self, path: str) -> httpx.Response:
        """One page, whatever comes of it."""
        answer: httpx.Response = self.visitor.browser.get(path)
        return answer

    def text(self, path: str) -> str:
        """The page, which has to be there."""
        answer = self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text

    def words(self, path: str) -> str:
        """The text of a page, without marks."""
        return plain(self.text(path))

    def send(self, path: str, **fields: str) -> str:
        """A form; the text of the page that it leads to, from a redirect (303)."""
        sent = {"csrf": self.visitor.csrf, **fields}
        answer = self.visitor.browser.post(path, data=sent)
        assert answer.status_code == 303, (path, answer.status_code, answer.text)
        return self.text(answer.headers["Location"])


def all_pages(hub: PageHub) -> list[str]:
    """An address of every page that a reader sees."""
    holds = hub.holds
    return [
        *FOR_ALL,
        *FOR_READERS,
        *(f"/cohorts/{each}" for each in (holds.accepted, holds.withdrawn, holds.rejected)),
        f"/encoders/{holds.encoder}",
        *(f"/jobs/{each}" for each in (holds.training, holds.failed)),
        f"/sites/{holds.pending}",
    ]


def plain(page: str) -> str:
    """What a page says."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", " ", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ").split())


def build(folder: Path) -> tuple[HubHome, Furnished]:
    """The furnished hub that tests copy."""
    home = HubHome(folder / "hub")
    home.initialise("Hub of the tests", BASE)
    with home.config_file.open("a") as file:
        file.write(CHEAP + OPEN)
    key = SiteKey.create(folder / "site.key")
    return home, furnish(home, folder, good_bundle(folder / "bundle", key), key, SITE)


def copied(template: tuple[HubHome, Furnished], folder: Path) -> PageHub:
    """A hub that a test may change."""
    home = HubHome(Path(shutil.copytree(template[0].folder, folder / "hub")))
    hub = PageHub(WebHub(home), template[1])
    hub.web.app = create_app(hub.web.state, PAGES, error_page)
    return hub
