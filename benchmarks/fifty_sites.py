"""Fifty sites send at once, and a third of the connections are cut at random.

Each site writes and signs a bundle of noise tiles, joins a hub on loopback, and sends the bundle as
`pixcell-site send` does, over TLS and through a proxy that resets a third of the connections
somewhere in their first bytes. The hub is the real one, in a process of its own, and takes bundles
in meanwhile. Beside that, somebody who is logged in loads pages, one every 0.2 s.

    python benchmarks/fifty_sites.py [--sites 50] [--mb 200] [--folder FOLDER] [--no-wait]

Claims: every bundle arrives whole (the hub checks each file's SHA-256); the 95th percentile of the
pages' times stays under 500 ms. Sites, proxy and hub share this machine's cores.
Writes benchmarks/results/fifty_sites_<machine>.json.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _results import write_result

from hub_server.acts import Acts
from hub_server.home import HubHome
from hub_server.registry import Role, cohorts
from pixcell_share.bundles import write_bundle
from pixcell_share.progress import LineView
from site_agent.delivery import SendSettings
from site_agent.home import SiteHome
from site_agent.hub_link import HubLink
from site_agent.joining import JoinSettings, join
from site_agent.sending import send

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.bundles.forging import COHORT, PASSED

TILE_PX = 256
SHARE_CUT = 1 / 3
PASSWORD = "a few random words"
PAGES = ("/login", "/", "/cohorts", "/sites", "/leaderboard", "/log")
PACKAGES = ("fastapi", "uvicorn", "h11", "httpx", "cryptography", "sqlalchemy")
LIMIT_MS = 500.0
_HUB = """
import sys
from pathlib import Path
from hub_server.home import HubHome
from hub_server.web.pages import PAGES, error_page
from hub_server.web.serve import ServeSettings, serve
settings = ServeSettings(host="127.0.0.1", port=0)
serve(HubHome(Path(sys.argv[1])), settings, pages=PAGES, error_page=error_page,
      on_ready=lambda port: print(port, flush=True))
"""


class Silent(LineView):
    """Says nothing."""

    def say(self, text: str) -> None:
        """Not this either."""


@dataclass
class Reader:
    """Somebody who looks at the pages."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    times_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def run(self) -> None:
        """Load one page after the other until `stop`."""
        with httpx.Client(base_url=self.url, verify=False, timeout=60) as browser:
            login = {"name": "auditor", "password": PASSWORD}
            browser.post("/api/v1/session", json=login).raise_for_status()
            turn = 0
            while not self.stop.wait(0.2):
                began = time.perf_counter()
                answer = browser.get(PAGES[turn % len(PAGES)])
                self.times_ms.append((time.perf_counter() - began) * 1000)
                self.statuses[answer.status_code] += 1
                turn += 1


def start(*words: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def make_sites(folder: Path, count: int, megabytes: int) -> list[tuple[SiteHome, Path]]:
    """Each with a key and a bundle of its own."""
    tiles = max(1, megabytes * 1_000_000 // (3 * TILE_PX**2))
    made = []
    for number in range(count):
        home, bundle = SiteHome(folder / f"site-{number}"), folder / f"bundle-{number}"
        key, chance = home.initialise(f"site-{number}"), np.random.default_rng(number)
        noise = (
            (chance.integers(0, 256, (TILE_PX, TILE_PX, 3), dtype=np.uint8), i % 2)
            for i in range(tiles)
        )
        cohort = replace(COHORT, site=f"site-{number}", tile_px=TILE_PX)
        shard_bytes = max(20_000_000, megabytes * 250_000)
        write_bundle(bundle, cohort, noise, PASSED, key, count=tiles, shard_bytes=shard_bytes)
        made.append((home, bundle))
    return made


def join_all(hub: HubHome, url: str, through: str, sites: list[tuple[SiteHome, Path]]) -> None:
    """Make them members that reach the hub through the proxy."""
    fingerprint = hub.load_key().key_id
    with Acts.opened(hub, "operator") as acts:
        acts.add_account("auditor", Role.AUDITOR, password=PASSWORD)
        for home, _ in sites:
            name = home.config().site
            settings = JoinSettings(code=acts.invite(name).code, wait=False)
            joined = join(url, fingerprint, home, Silent(), settings)
            acts.admit(name, joined.key_id)
            replace(HubLink.load(home), url=through).save(home)


def send_all(sites: list[tuple[SiteHome, Path]]) -> tuple[float, list[Any]]:
    """All at once; seconds until the last has arrived, and what became of each."""
    outcomes: list[Any] = [None] * len(sites)

    def one(number: int) -> None:
        home, bundle = sites[number]
        settings = SendSettings(connections=2, wait=False)
        try:
            outcomes[number] = send(bundle, home, Silent(), settings)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(sites))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, outcomes


def cohorts_by_state(hub: HubHome, count: int, wait: bool) -> dict[str, int]:
    """Cohorts by state; with ``wait`` once the hub has decided about all."""
    registry = hub.registry()
    while True:
        with registry.reading() as session:
            states = Counter(cohort.state.value for cohort in cohorts.list_cohorts(session))
        if not wait or states["accepted"] + states["rejected"] >= count:
            registry.close()
            return dict(states)
        time.sleep(2)


def measure(folder: Path, count: int, megabytes: int, wait: bool) -> dict[str, Any]:
    sites = make_sites(folder, count, megabytes)
    print(f"{count} bundles of {megabytes} MB are made", flush=True)
    hub = HubHome(folder / "hub")
    hub.initialise("hub", "https://localhost:8443")
    served, port = start("-c", _HUB, str(hub.folder))
    most = str(megabytes * 1_000_000 // 4)
    proxy, proxy_port = start(
        str(Path(__file__).with_name("_cutting.py")), str(port), str(SHARE_CUT), most, "0"
    )
    join_all(hub, f"https://127.0.0.1:{port}", f"https://127.0.0.1:{proxy_port}", sites)
    reader = Reader(f"https://127.0.0.1:{port}")
    watching = threading.Thread(target=reader.run)
    watching.start()
    seconds, outcomes = send_all(sites)
    reader.stop.set()
    watching.join()
    said, _ = proxy.communicate("")
    connections, cuts = (int(word) for word in said.split())
    whole = [o for o in outcomes if not isinstance(o, Exception)]
    for failure in (o for o in outcomes if isinstance(o, Exception)):
        print(f"failed: {type(failure).__name__}: {failure}")
    states = cohorts_by_state(hub, len(whole), wait)
    served.terminate()
    served.wait()
    total = sum(path.stat().st_size for _, bundle in sites for path in bundle.iterdir())
    times = sorted(reader.times_ms)
    return {
        "sites": count,
        "megabytes_each": megabytes,
        "arrived_whole": len(whole),
        "cohorts": states,
        "connections": connections,
        "connections_cut": cuts,
        "bytes": total,
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(total / seconds / 1e6, 1),
        "pages": {
            "paths": list(PAGES),
            "loads": len(times),
            "statuses": {str(status): n for status, n in reader.statuses.items()},
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
            "worst_ms": round(times[-1], 1),
            "limit_ms": LIMIT_MS,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--mb", type=int, default=200, help="size of each bundle")
    parser.add_argument("--folder", type=Path, help="where the bundles and the hub lie meanwhile")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the intake")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(Path(folder), options.sites, options.mb, not options.no_wait)
    pages = result["pages"]
    print(f"{result['arrived_whole']} of {result['sites']} arrived whole, cohorts: "
          f"{result['cohorts']}; {result['connections_cut']} of {result['connections']} "
          f"connections were cut; {result['megabytes_per_second']} MB/s")  # fmt: skip
    print(f"pages: median {pages['median_ms']} ms, p95 {pages['p95_ms']} ms of {pages['loads']}")
    print(write_result("fifty_sites", result, PACKAGES))
    if result["arrived_whole"] < result["sites"] or pages["p95_ms"] > LIMIT_MS:
        sys.exit("a claim does not hold")


if __name__ == "__main__":
    main()
