"""A headless Chromium, and a furnished hub that answers it over TLS on this machine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, Playwright

from hub_server.acts import Acts
from hub_server.registry import Role
from hub_server.web.serve import Server, ServeSettings, server_config
from tests.hub_server.page_calls import PageHub
from tests.hub_server.web_calls import PASSWORD

INSTALL = "no chromium here: install it with `apt-get install chromium`"
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_PAGE_CHECKS = """() => {
  const faults = [], all = selector => [...document.querySelectorAll(selector)];
  const one = selector => { if (all(selector).length !== 1) faults.push(`not one ${selector}`); };
  ["h1", "main", "header.top", "footer", "title", "a.skip"].forEach(one);
  const ids = all("[id]").map(e => e.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach(id => faults.push(`id twice: ${id}`));
  all("input:not([type=hidden]), select, textarea").forEach(e => {
    if (!e.labels.length) faults.push(`no label: ${e.name}`); });
  all("img").forEach(e => { if (!e.alt) faults.push("a picture without alt"); });
  all("table").forEach(e => { if (!e.caption) faults.push("a table without caption"); });
  all("svg[role=img]").forEach(e => {
    if (!e.getAttribute("aria-label")) faults.push("a chart without label"); });
  all("section").forEach(e => {
    const name = e.getAttribute("aria-labelledby");
    if (name && !document.getElementById(name)) faults.push(`no heading ${name}`); });
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) faults.push(`${wide} px too wide`);
  return faults;
}"""
_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const ground = e => { for (; e; e = e.parentElement) {
    const found = rgb(getComputedStyle(e).backgroundColor); if (found[3] === 255) return found; }
    return [255, 255, 255]; };
  const faults = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walk.nextNode());) {
    const e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility() || e.closest("svg, option, script")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) faults.add(`${contrast.toFixed(2)}: ${text.data.trim().slice(0, 30)}`);
  }
  return [...faults];
}"""


@dataclass
class Visit:
    """A tab, and what went wrong in it."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)

    def go(self, path: str) -> None:
        """Open a page of the hub; it has to be there."""
        answer = self.page.goto(self.base + path)
        assert answer is not None and answer.ok, path

    def log_in(self, role: Role) -> None:
        """By the form."""
        self.go("/login")
        self.page.get_by_label("Name").fill(f"the {role.value}")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{self.base}/")

    def tab_to(self, name: str) -> None:
        """Press the tabulator until the thing of that name has the focus."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_FOCUSED) == name:
                return
        raise AssertionError(f"no {name} within 80 steps of the tabulator")

    def check(self) -> None:
        """The page is built as it should be, and can be read."""
        found = [*self.page.evaluate(_PAGE_CHECKS), *self.page.evaluate(_CONTRAST)]
        assert not found, (self.page.url, found)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left before it had all
            self.faults.append(f"{request.failure}: {request.url}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.faults.append(f"outside: {request.url}")


_FOCUSED = """() => {
  const e = document.activeElement;
  return (e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || "")
    .trim().replace(/\\s+/g, " ");
}"""


def chromium() -> str | None:
    """Where the browser is."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def launch(playwright: Playwright, program: str) -> Browser:
    """Start it."""
    return playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))


@contextmanager
def served(hub: PageHub) -> Iterator[str]:
    """The address of a hub that is served by uvicorn, with its own certificate."""
    with Acts.opened(hub.web.home, "operator:cli") as acts:
        for role in Role:
            acts.add_account(f"the {role.value}", role, password=PASSWORD)
    ready, ports = threading.Event(), []

    def listens(port: int) -> None:
        ports.append(port)
        ready.set()

    settings = ServeSettings(host="127.0.0.1", port=0)
    server = Server(server_config(hub.web.state, hub.web.app, settings), listens)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(60)
        yield f"https://localhost:{ports[0]}"
    finally:
        server.should_exit = True
        thread.join()
        hub.web.state.registry.close()


@contextmanager
def visiting(browser: Browser, base: str, **options: Any) -> Iterator[Visit]:
    """A fresh profile with one tab, in which nothing may go wrong."""
    context = browser.new_context(ignore_https_errors=True, **options)
    try:
        visit = Visit(context.new_page(), base)
        yield visit
        assert not visit.faults, visit.faults
    finally:
        context.close()
