"""Every bundle of the corpus is refused with its reason, and nothing of it is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hub_server.home import HubHome
from hub_server.intake import Reason, intake_folder
from hub_server.log import verify_log
from hub_server.registry import Cohort, CohortState
from tests.bundles.hostile_corpus.laying import CORPUS, GOOD, read_cases
from tests.hub_server.attacked_hub import attack, make_hub

CASES = read_cases()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    """One hub for all bundles that come without a history: no refusal changes the next."""
    return make_hub(tmp_path_factory.mktemp("attacked") / "hub")


@pytest.fixture(scope="module")
def untouched(attacked: HubHome, tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    """To be copied for bundles that come with a history."""
    folder = tmp_path_factory.mktemp("untouched") / "hub"
    return HubHome(Path(shutil.copytree(attacked.folder, folder)))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_hostile_bundle_is_refused_with_its_reason(
    attacked: HubHome, untouched: HubHome, case: dict[str, Any], tmp_path: Path
) -> None:
    hub = attacked
    if case["before"] or case["sender"]:
        hub = HubHome(Path(shutil.copytree(untouched.folder, tmp_path / "hub")))
    outcome = attack(hub, case, tmp_path)
    assert outcome.state is CohortState.REJECTED
    assert outcome.reason == case["reason"], outcome.detail
    assert case["says"] in outcome.detail
    assert outcome.detail.isprintable()
    assert str(tmp_path) not in outcome.detail
    assert not list(hub.quarantine.iterdir())
    if not case["before"]:
        assert not list(hub.storage().list("cohorts"))


def test_the_good_bundle_is_accepted_after_all_that(attacked: HubHome) -> None:
    """Else the tests above could pass for a fault of the hub; and the log is whole."""
    assert intake_folder(attacked, CORPUS / GOOD).accepted
    verify_log(attacked.log_folder, attacked.load_key().public)


def test_what_a_member_signed_is_kept_with_its_reason(attacked: HubHome) -> None:
    registry = attacked.registry()
    with registry.reading() as session:
        rows = session.query(Cohort).filter(Cohort.state == CohortState.REJECTED).all()
    registry.close()
    for row in rows:
        assert Reason(row.reason or "").sentence
        assert row.detail
        assert row.canonical is None
