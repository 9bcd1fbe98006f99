"""The pages in Chromium without a head: every page for every role, by keyboard, without script."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from hub_server.home import HubHome
from hub_server.registry import Role
from tests.hub_server.browsing import INSTALL, chromium, launch, served, visiting
from tests.hub_server.page_calls import FOR_ALL, PageHub, all_pages, copied
from tests.hub_server.page_hub import Furnished

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(INSTALL)
    with sync_playwright() as playwright:
        found = launch(playwright, program)
        yield found
        found.close()


@pytest.fixture(scope="module")
def hub(
    page_template: tuple[HubHome, Furnished], tmp_path_factory: pytest.TempPathFactory
) -> PageHub:
    return copied(page_template, tmp_path_factory.mktemp("browsed"))


@pytest.fixture(scope="module")
def base(browser: Browser, hub: PageHub) -> Iterator[str]:
    with served(hub) as address:
        yield address


@pytest.mark.parametrize(
    ("role", "scheme", "screen"),
    [
        (Role.OPERATOR, "light", WIDE),
        (Role.OPERATOR, "dark", NARROW),
        (Role.AUDITOR, "dark", WIDE),
        (Role.RESEARCHER, "light", NARROW),
    ],
)
def test_every_page_loads_is_well_built_and_can_be_read(
    browser: Browser, base: str, hub: PageHub, role: Role, scheme: str, screen: dict[str, int]
) -> None:
    with visiting(browser, base, color_scheme=scheme, viewport=screen) as visit:
        visit.go("/login")
        visit.check()
        visit.log_in(role)
        own = (*FOR_ALL, f"/cohorts/{hub.holds.accepted}", f"/jobs/{hub.holds.training}")
        for path in own if role is Role.RESEARCHER else all_pages(hub):
            visit.go(path)
            visit.check()
        dark = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(17, 23, 28)") == (scheme == "dark")


def test_a_site_is_invited_by_keyboard_alone(browser: Browser, base: str) -> None:
    with visiting(browser, base, viewport=WIDE) as visit:
        page, keys = visit.page, visit.page.keyboard
        visit.go("/login")
        page.wait_for_function("document.activeElement.id === 'name'")  # autofocus takes a frame
        keys.type("the operator")
        visit.tab_to("Password")
        keys.type("a few random words")
        keys.press("Enter")
        page.wait_for_url(f"{base}/")
        visit.tab_to("Skip to the content")
        keys.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        visit.go("/")
        visit.tab_to("Sites")
        keys.press("Enter")
        page.wait_for_url(f"{base}/sites")
        visit.tab_to("Name, as everybody will see it")
        keys.type("Klinikum am Meer")
        visit.tab_to("Invite")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        keys.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Klinikum am Meer is invited")
        visit.check()
        page.reload()
        expect(page.get_by_role("status")).to_have_count(0)
        visit.tab_to("Log out")
        keys.press("Enter")
        page.wait_for_url(f"{base}/login")
        visit.page.goto(f"{base}/sites")
        assert visit.page.url == f"{base}/login?next=%2Fsites"


def test_the_curves_grow_while_one_looks(browser: Browser, base: str, hub: PageHub) -> None:
    log = hub.web.home.jobs / "running" / "log.jsonl"
    with visiting(browser, base, viewport=WIDE) as visit:
        visit.log_in(Role.RESEARCHER)
        visit.page.clock.install()
        visit.go(f"/jobs/{hub.holds.training}")
        expect(visit.page.get_by_text("Kept fresh every 5 seconds.")).to_be_visible()
        with log.open("a") as file:
            file.write("\n" + json.dumps({"step": 1000, "loss": 5.25}) + "\n")
        visit.page.clock.fast_forward(6000)
        loss = visit.page.get_by_role("img", name="Loss:")
        expect(loss).to_have_attribute("aria-label", "Loss: 10.2 at step 10, 5.25 at step 1,000")


def test_without_a_script_everything_is_there(browser: Browser, base: str, hub: PageHub) -> None:
    with visiting(browser, base, viewport=WIDE, java_script_enabled=False) as visit:
        visit.log_in(Role.OPERATOR)
        visit.go(f"/jobs/{hub.holds.training}")
        expect(visit.page.get_by_role("img", name="Loss:")).to_be_visible()
        visit.page.get_by_role("link", name="Reload").click()
        visit.go("/cohorts")
        visit.page.get_by_label("State").select_option("withdrawn")
        visit.page.get_by_role("button", name="Filter").click()
        expect(visit.page.get_by_role("row")).to_have_count(2)


def test_a_cohort_is_printed_without_what_is_pressed(
    browser: Browser, base: str, hub: PageHub
) -> None:
    with visiting(browser, base, viewport=WIDE) as visit:
        visit.log_in(Role.OPERATOR)
        visit.go(f"/cohorts/{hub.holds.accepted}")
        expect(visit.page.get_by_role("button", name="Withdraw")).to_be_visible()
        visit.page.emulate_media(media="print", color_scheme="dark")
        for name in ("Withdraw", "Log out"):
            expect(visit.page.get_by_role("button", name=name)).to_have_count(0)
        ground = "getComputedStyle(document.body).backgroundColor"
        assert visit.page.evaluate(ground) == "rgb(255, 255, 255)"
        visit.check()
