"""A whole federation of two sites in Flower's simulation. `test_federation_faults` deploys one."""

from __future__ import annotations

import pytest

from hub_server.acts import Acts
from hub_server.federation.simulated_sites import join
from hub_server.federation.simulating import SimulateSettings, hold_rounds
from hub_server.federation.typed import served
from hub_server.registry import CohortState
from hub_server.registry.cohorts import list_cohorts
from pixcell_share.federation import RoundKind
from tests.federation.small_federation import SMALL, SmallFederation, small

__all__ = ["small"]  # a fixture


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
