"""Make the pictures of the hub's pages from the result of `make demo`.

    python docs/images/hub_pages.py demo

A hub takes in the demo's bundle, whose tiles nano drew from drawn slides, and a second site waits
for admission. Needs Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.intake import intake_folder
from hub_server.registry import Role
from hub_server.web.app import create_app
from hub_server.web.pages import PAGES, error_page
from pixcell_share.bundles import SiteKey
from site_agent.home import SiteHome
from tests.hub_server.browsing import chromium, launch, served, visiting
from tests.hub_server.page_calls import PageHub
from tests.hub_server.page_hub import Furnished
from tests.hub_server.web_calls import WebHub

FOLDER = Path(__file__).parent


def main(demo: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = HubHome(Path(folder) / "hub")
        home.initialise("Pathology hub North")
        cohort, pending = fill(home, demo, Path(folder))
        hub = PageHub(WebHub(home), Furnished(cohort, "", "", "", "", "", pending, ""))
        hub.web.app = create_app(hub.web.state, PAGES, error_page)
        with served(hub) as base, sync_playwright() as playwright:
            browser = launch(playwright, chromium() or "chromium")
            for name, path, scheme, height in (
                ("hub_cohort", f"/cohorts/{cohort}", "light", 980),
                ("hub_admission", f"/sites/{pending}", "dark", 660),
            ):
                screen = {"width": 1240, "height": height}
                with visiting(browser, base, color_scheme=scheme, viewport=screen) as visit:
                    visit.log_in(Role.OPERATOR)
                    visit.go(path)
                    save(visit.page, name)
            browser.close()


def fill(home: HubHome, demo: Path, folder: Path) -> tuple[str, str]:
    """The accepted cohort, and the site that waits."""
    site = SiteHome(demo / "site").config().site
    with Acts.opened(home, "operator:cli") as acts:
        key = SiteKey.load(demo / "site" / "site.key")
        acts.join(acts.invite(site).code, site, key.public_pem)
        acts.admit(site, key.key_id)
        other = SiteKey.create(folder / "other.key")
        code = acts.invite("Klinikum am Meer", "Frau Berg, +49 40 000000").code
        pending = acts.join(code, "Klinikum am Meer", other.public_pem).site_id
    return intake_folder(home, demo / "run" / "bundle").cohort, pending


def save(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.save(FOLDER / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
