"""PostgreSQL goes away for a moment during an intake and during a job: nothing accepted is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hub_server.home import HubHome
from hub_server.intake import arrival, check_stored_files, check_summary, intake_folder
from hub_server.intake.quarantine import Quarantine
from hub_server.jobs import EvaluateSettings, JobRunner, plan_evaluation
from hub_server.jobs import evaluating as evaluating_room
from hub_server.jobs.worker import work_on
from hub_server.log import HubLog, verify_log
from hub_server.registry import Cohort, CohortState, Job, JobKind, JobState, jobs
from hub_server.registry import cohorts as cohort_rows
from hub_server.registry.leaderboard import leaderboard
from hub_server.storage.local import LocalStorage
from hub_server.web import background
from hub_server.web.background import Background
from pixcell_share.bundles import SiteKey, bundle_digest
from pixcell_share.errors import DatabaseError
from pixcell_share.ssl import SilentView
from tests.bundles.forging import make_tiles
from tests.bundles.hostile_corpus.good import write_good
from tests.hub_server.attacked_hub import add_member
from tests.hub_server.job_hub import look, make_folder, opened, until
from tests.hub_server.postgres import PostgresServer
from tests.hub_server.postgres_outages import make_postgres_hub, outage
from tests.hub_server.upload_making import offer_for
from tests.hub_server.web_calls import WebHub

SITE = "hospital-a"
BETWEEN: list[tuple[Any, str]] = [
    (arrival, "copy_bundle"),
    (Quarantine, "take"),
    (Quarantine, "write_findings"),
    (HubLog, "append"),
    (LocalStorage, "put"),
]
"""Steps of an intake that are between its units of work."""
WITHIN = [
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("receive", "quarantine")),
    *("mark_verified", "accept"),
]
"""Changes of the registry: the server stops before they are committed."""


@pytest.fixture
def hub(postgres: PostgresServer, tmp_path: Path, key: SiteKey) -> HubHome:
    home = make_postgres_hub(postgres, tmp_path / "hub")
    registry = home.registry()
    with registry.session() as session:
        add_member(session, SITE, key)
    registry.close()
    return home


@pytest.fixture
def bundle(tmp_path: Path, key: SiteKey) -> Path:
    return write_good(tmp_path / "bundle", key, site=SITE, tiles=list(make_tiles(12, seed=3)))


def check_accepted(home: HubHome, digest: str) -> None:
    """The cohort is served whole, nothing is left over, and the log holds."""
    registry = home.registry()
    with registry.reading() as session:
        row = session.get_one(Cohort, digest)
    registry.close()
    assert row.state is CohortState.ACCEPTED
    assert row.summary is not None
    check_stored_files(check_summary(row.summary, home.load_key().public), home.storage())
    assert not list(home.quarantine.iterdir())
    verify_log(home.log_folder, home.load_key().public)


@pytest.mark.parametrize("at", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 5)), 7])
def test_gone_between_two_steps_of_an_intake(
    postgres: PostgresServer, hub: HubHome, bundle: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with outage(postgres, monkeypatch, BETWEEN, at) as planned:
        assert intake_folder(hub, bundle).accepted
    assert planned.happened
    check_accepted(hub, bundle_digest(bundle))


@pytest.mark.parametrize("change", WITHIN)
def test_gone_within_a_change_of_an_intake(
    postgres: PostgresServer,
    hub: HubHome,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    with outage(postgres, monkeypatch, [(cohort_rows, change)]) as planned:
        assert intake_folder(hub, bundle).accepted
    assert planned.happened
    check_accepted(hub, bundle_digest(bundle))


@pytest.mark.parametrize(
    "place", ["intake", "finish", pytest.param("claim", marks=pytest.mark.slow)]
)
def test_gone_while_a_served_hub_takes_an_upload_in(
    postgres: PostgresServer,
    hub: HubHome,
    bundle: Path,
    key: SiteKey,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """The job of the upload is claimed, done or ended at that moment; the end is the same."""
    monkeypatch.setattr(background, "_LOOK_EVERY_S", 0.05)
    with hub.config_file.open("a") as file:
        file.write("[jobs]\nlease_seconds = 2.0\n")
    web = WebHub(hub)
    send(web, key, bundle)
    places: dict[str, tuple[Any, str]] = {
        "claim": (jobs, "claim"),
        "intake": (cohort_rows, "find_cohort"),
        "finish": (jobs, "finish"),
    }
    with outage(postgres, monkeypatch, [places[place]]) as planned, Background(web.state):
        until(lambda: planned.happened)
        planned.end()
        until(lambda: intake_job(web).state is JobState.DONE)
        until(lambda: not list(hub.uploads.iterdir()))
    web.state.registry.close()
    check_accepted(hub, bundle_digest(bundle))


def send(web: WebHub, key: SiteKey, bundle: Path) -> None:
    """Upload a bundle, and say that it is whole."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    site = web.site(key)
    upload = site.call("POST", "/uploads", offer_for(files).to_document()).json()["upload_id"]
    for name, data in files.items():
        assert site.piece(f"/uploads/{upload}/{name}", 0, data).status_code == 204
    assert site.call("POST", f"/uploads/{upload}/finish").status_code == 202


def intake_job(web: WebHub) -> Job:
    with web.state.registry.reading() as session:
        (job,) = jobs.list_jobs(session, kinds=(JobKind.INTAKE,))
    return job


def enqueue(home: HubHome, folder: Path) -> str:
    """An evaluation of a second."""
    data = str(make_folder(folder / "colours"))
    with opened(home) as open_hub:
        wanted = EvaluateSettings(encoder="texture", dataset=data, device="cpu")
        return plan_evaluation(open_hub, wanted).id


def results(home: HubHome) -> int:
    with opened(home) as open_hub, open_hub.registry.reading() as session:
        return sum(len(row.figures) for row in leaderboard(session).rows)


def test_gone_while_a_job_computes(
    postgres: PostgresServer, hub: HubHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = enqueue(hub, tmp_path)
    with outage(postgres, monkeypatch, [(evaluating_room, "open_dataset")]) as planned:
        assert work_on(hub, job_id, "worker", SilentView()) is JobState.DONE
    assert planned.happened
    assert results(hub) == 1


def test_gone_before_the_result_of_a_job_is_kept(
    postgres: PostgresServer, hub: HubHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-kept is shown, and the job waits for the next worker: it has not failed."""
    job_id = enqueue(hub, tmp_path)
    with outage(postgres, monkeypatch, [(evaluating_room, "record_evaluation")]) as planned:
        with pytest.raises(DatabaseError):
            work_on(hub, job_id, "worker", SilentView())
        assert planned.happened
    assert look(hub, job_id).state is JobState.QUEUED
    assert results(hub) == 0
    assert work_on(hub, job_id, "worker", SilentView()) is JobState.DONE
    assert results(hub) == 1
    verify_log(hub.log_folder, hub.load_key().public)


@pytest.mark.slow
def test_the_runner_and_its_worker_outlive_an_outage_beyond_the_lease(
    postgres: PostgresServer, hub: HubHome, tmp_path: Path
) -> None:
    with hub.config_file.open("a") as file:
        file.write("[jobs]\nlease_seconds = 1.0\n")
    job_id = enqueue(hub, tmp_path)
    with JobRunner(hub, every_s=0.1):
        until(lambda: look(hub, job_id).state is JobState.RUNNING)
        postgres.stop()
        try:
            time.sleep(1.5)
        finally:
            postgres.start()
        until(lambda: look(hub, job_id).state not in (JobState.RUNNING, JobState.QUEUED))
    assert look(hub, job_id).state is JobState.DONE, look(hub, job_id).error
    assert results(hub) == 1
