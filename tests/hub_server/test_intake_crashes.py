"""A hub that is killed during an intake, or whose disk is full: the same end, nothing half-made."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from hub_server.home import HubHome
from hub_server.intake import (
    arrival,
    check_stored_files,
    check_summary,
    finish_withdrawals,
    intake_folder,
    resume,
    withdraw,
)
from hub_server.intake.quarantine import Quarantine
from hub_server.log import HubLog, verify_log
from hub_server.registry import Cohort, CohortState, Registry
from hub_server.storage.local import LocalStorage
from pixcell_share.bundles import bundle_digest
from pixcell_share.errors import StorageError
from tests.bundles.forging import make_tiles
from tests.bundles.hostile_corpus.good import write_good
from tests.bundles.hostile_corpus.keys import make_key
from tests.bundles.hostile_corpus.laying import CORPUS, GOOD, lay_out, read_cases
from tests.hub_server.attacked_hub import make_hub
from tests.hub_server.crashes import DONE, FAILED, die_after, in_child, killed_after, limit_files

STEPS: list[tuple[Any, str]] = [
    (arrival, "copy_bundle"),
    (Quarantine, "take"),
    (Quarantine, "write_findings"),
    (Quarantine, "clear"),
    (HubLog, "append"),
    (Registry, "run"),
    (LocalStorage, "put"),
    (LocalStorage, "delete"),
]
ACCEPTED_STEPS, REJECTED_STEPS, WITHDRAWN_STEPS = 14, 11, 6
"""Calls of the steps from a good bundle, and from one with blank tiles, to the end."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> HubHome:
    return make_hub(tmp_path_factory.mktemp("pristine") / "hub")


@pytest.fixture
def hub(pristine: HubHome, tmp_path: Path) -> HubHome:
    return HubHome(Path(shutil.copytree(pristine.folder, tmp_path / "hub")))


def row_of(hub: HubHome, bundle: Path) -> Cohort | None:
    registry = hub.registry()
    with registry.reading() as session:
        row = session.get(Cohort, bundle_digest(bundle))
    registry.close()
    return row


def served(hub: HubHome, bundle: Path) -> bool:
    """Whether the hub gives the cohort's tiles to anybody; then they must be whole."""
    row = row_of(hub, bundle)
    if row is None or row.state is not CohortState.ACCEPTED:
        assert row is None or row.canonical is None
        return False
    assert row.summary is not None
    check_stored_files(check_summary(row.summary, hub.load_key().public), hub.storage())
    return True


def check_end(hub: HubHome, bundle: Path) -> None:
    """Nothing is left over, and the log is whole."""
    assert not list(hub.quarantine.iterdir())
    verify_log(hub.log_folder, hub.load_key().public)
    if not served(hub, bundle):
        assert not list(hub.storage().list("cohorts"))


@pytest.mark.parametrize("count", range(1, ACCEPTED_STEPS + 1))
def test_killed_after_any_step_of_an_acceptance(
    hub: HubHome, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    bundle = CORPUS / GOOD
    with monkeypatch.context() as patch:
        die_after(patch, STEPS, count)
        assert in_child(lambda: intake_folder(hub, bundle)) == -signal.SIGKILL
    if served(hub, bundle):
        assert count >= ACCEPTED_STEPS - 1
        resume(hub)
    else:
        assert intake_folder(hub, bundle).accepted
    assert served(hub, bundle)
    check_end(hub, bundle)


def test_the_steps_are_all_there_are(hub: HubHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would stop short of the end."""
    with monkeypatch.context() as patch:
        die_after(patch, STEPS, ACCEPTED_STEPS + 1)
        assert in_child(lambda: intake_folder(hub, CORPUS / GOOD)) == DONE


@pytest.mark.parametrize("count", range(2, REJECTED_STEPS + 1, 2))
def test_killed_after_a_step_of_a_rejection(
    hub: HubHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    case = next(case for case in read_cases() if case["name"] == "blank_tiles")
    bundle = lay_out(case, tmp_path / "bundle")
    with monkeypatch.context() as patch:
        die_after(patch, STEPS, count)
        assert in_child(lambda: intake_folder(hub, bundle)) == -signal.SIGKILL
    outcome = intake_folder(hub, bundle)
    assert (outcome.state, outcome.reason) == (CohortState.REJECTED, case["reason"])
    check_end(hub, bundle)


@pytest.mark.parametrize("count", range(1, WITHDRAWN_STEPS + 1))
def test_killed_after_any_step_of_a_withdrawal(
    hub: HubHome, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    bundle = CORPUS / GOOD
    digest = intake_folder(hub, bundle).cohort

    def work() -> object:
        return withdraw(hub, digest, actor="operator", reason="asked")

    with monkeypatch.context() as patch:
        die_after(patch, STEPS, count)
        assert in_child(work) == -signal.SIGKILL
    if row_of(hub, bundle).state is CohortState.WITHDRAWN:  # type: ignore[union-attr]
        finish_withdrawals(hub)
    else:
        work()
    row = row_of(hub, bundle)
    assert row is not None
    assert (row.state, row.withdrawn_by) == (CohortState.WITHDRAWN, "operator")
    resume(hub)
    check_end(hub, bundle)


def large_bundle(folder: Path) -> Path:
    """3 MB in one shard."""
    return write_good(folder, make_key("member"), tiles=list(make_tiles(1000)))


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5])
def test_killed_at_any_moment(hub: HubHome, tmp_path: Path, seconds: float) -> None:
    bundle = large_bundle(tmp_path / "bundle")
    killed_after(lambda: intake_folder(hub, bundle), seconds)
    if not served(hub, bundle):
        assert intake_folder(hub, bundle).accepted
    resume(hub)
    assert served(hub, bundle)
    check_end(hub, bundle)


def test_a_full_disk_changes_nothing(
    hub: HubHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = large_bundle(tmp_path / "bundle")

    def without_room() -> None:
        limit_files(2 << 20)
        with pytest.raises(StorageError, match="disk is full"):
            intake_folder(hub, bundle)

    assert in_child(without_room) == DONE
    assert row_of(hub, bundle) is None
    with monkeypatch.context() as patch:
        die_after(patch, [(Registry, "run")], 2)
        assert in_child(lambda: intake_folder(hub, bundle)) == -signal.SIGKILL
    assert in_child(without_room) == DONE
    row = row_of(hub, bundle)
    assert row is not None
    assert row.state is CohortState.QUARANTINED
    assert not served(hub, bundle)
    assert intake_folder(hub, bundle).accepted
    check_end(hub, bundle)


def test_a_child_that_fails_is_seen() -> None:
    """Else `in_child` could hide an assertion."""
    assert in_child(lambda: 1 / 0) == FAILED
