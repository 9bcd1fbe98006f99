"""Whole federations of two sites: in Flower's simulation, and deployed with TLS and node keys."""

from __future__ import annotations

import pytest

from hub_server.acts import Acts
from hub_server.federation.local_sites import agent
from hub_server.federation.simulated_sites import join
from hub_server.federation.simulating import SimulateSettings, hold_rounds
from hub_server.federation.typed import served
from hub_server.registry import CohortState
from hub_server.registry.cohorts import list_cohorts
from pixcell_share.federation import RoundKind
from site_agent.federation.places import Places as SitePlaces
from site_agent.home import SiteHome
from tests.federation.connect_proxy import ConnectProxy
from tests.federation.served_federation import until
from tests.federation.small_federation import SMALL, SmallFederation, small

__all__ = ["small"]  # a fixture
ATTEMPTS = 5
"""That fail, while the way out is gone, before it is there again."""


@pytest.mark.slow
def test_two_sites_in_flowers_simulation(small: SmallFederation) -> None:
    settings = SimulateSettings(out=small.hub.folder, rounds={RoundKind.COHORT: SMALL}, wait_s=300)
    with served(small.hub.folder) as address:
        for site in small.sites:
            join(small.hub.folder, site, address)
        [folder] = hold_rounds(small.hub, small.sites, settings, lambda text: None)
    held, answers = folder.load(), folder.answers()
    assert held.state == "done" and len(held.result["cohorts"]) == 2
    assert [(each.site, each.answer.result["verdict"]) for each in answers] == [
        ("Site 1", "PASS"),
        ("Site 2", "PASS"),
    ]
    with Acts.opened(small.hub, "test") as acts, acts.registry.reading() as session:
        kept = {row.id for row in list_cohorts(session) if row.state is CohortState.ACCEPTED}
    assert set(held.result["cohorts"]) <= kept


@pytest.mark.slow
def test_two_sites_deployed_one_behind_a_proxy_that_breaks_and_one_that_refuses(
    small: SmallFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small.sites
    small.allow(second, "encoder")
    with ConnectProxy() as proxy, small.served(second) as address:
        join(small.hub.folder, first, address)
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with agent(first):
            one = small.open(RoundKind.COHORT, SMALL, expected=2, wait_s=300)
            until(SitePlaces(SiteHome(first.home)).working.exists, 120)
            proxy.cut()
            until(lambda: proxy.refused > ATTEMPTS, 120)
            proxy.mend()
            assert small.watch(one).state == "done"
    small.allow(second, "cohort")
    assert small.answers(one) == {
        "Site 1": ("done", ""),
        "Site 2": ("refused", "not_allowed"),
    }
    assert proxy.asked == {address.removeprefix("https://")}
