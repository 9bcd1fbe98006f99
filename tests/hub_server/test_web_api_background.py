"""What a served hub does by itself: take in what came whole, and clear away what is old."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hub_server.registry import Cohort, CohortState, Job, JobKind, JobState, jobs
from hub_server.web import background
from hub_server.web.background import Background
from pixcell_share.errors import DatabaseError, StorageError
from pixcell_share.wire import Refusal
from tests.hub_server.upload_making import make_files, offer_for
from tests.hub_server.web_calls import SiteCaller, WebHub


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(background, "_CLEAR_EVERY_S", 0.02)


def send_all(member: SiteCaller, files: dict[str, bytes]) -> str:
    """Send and finish; the upload's id."""
    begun = member.call("POST", "/uploads", offer_for(files).to_document()).json()["upload_id"]
    for name, data in files.items():
        assert member.piece(f"/uploads/{begun}/{name}", 0, data).status_code == 204
    assert member.call("POST", f"/uploads/{begun}/finish").status_code == 202
    return begun


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def job_of(hub: WebHub) -> Job:
    with hub.state.registry.reading() as session:
        (job,) = jobs.list_jobs(session, kinds=(JobKind.INTAKE,))
        return job


def test_what_is_no_bundle_is_rejected_and_cleared_away(
    web_hub: WebHub, member: SiteCaller
) -> None:
    files = make_files()
    send_all(member, files)
    with Background(web_hub.state):
        until(lambda: job_of(web_hub).state is JobState.DONE)
        until(lambda: list(web_hub.home.uploads.iterdir()) == [])
    status = member.call("GET", f"/cohorts/{offer_for(files).bundle_digest}").json()
    assert status["state"] == "rejected" and status["reason"]


def test_an_intake_that_fails_is_tried_again_and_nothing_is_lost(
    web_hub: WebHub, member: SiteCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[dict[str, Any]] = []
    real = background.intake_upload

    def failing(home: Any, settings: Any) -> object:
        tries.append(settings)
        if len(tries) == 1:
            raise StorageError("the disk is full while writing /secret/place", "")
        if len(tries) == 2:
            raise RuntimeError("a fault")
        return real(home, settings)

    monkeypatch.setattr(background, "intake_upload", failing)
    send_all(member, make_files())
    with Background(web_hub.state):
        until(lambda: job_of(web_hub).state is JobState.DONE)
    assert len(tries) == 3


def test_an_intake_that_always_fails_ends_and_keeps_the_upload(
    web_hub: WebHub, member: SiteCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("a fault at /secret/place")

    monkeypatch.setattr(background, "intake_upload", failing)
    upload = send_all(member, make_files())
    with Background(web_hub.state):
        until(lambda: job_of(web_hub).state is JobState.FAILED)
    job = job_of(web_hub)
    assert job.attempts == web_hub.state.config.jobs.attempts
    assert job.error and "/secret" not in job.error
    assert (web_hub.home.uploads / upload / "bundle").is_dir()


def test_a_long_intake_keeps_its_lease(
    web_hub: WebHub, member: SiteCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_hub.home.config_file.open("a") as file:
        file.write("[jobs]\nlease_seconds = 0.3\n")
    hub = WebHub(web_hub.home)
    runs, enough = [], threading.Event()

    def slow(*_: object) -> None:
        runs.append(1)
        enough.wait(1.0)

    monkeypatch.setattr(background, "intake_upload", slow)
    send_all(member, make_files())
    with Background(hub.state), Background(hub.state):  # two hubs on one database
        until(lambda: job_of(hub).state is JobState.DONE)
    assert len(runs) == 1
    hub.state.registry.close()


def test_what_stood_still_is_deleted_unless_the_intake_needs_it(
    web_hub: WebHub, member: SiteCaller
) -> None:
    kept, old = make_files(1), make_files(2)
    send_all(member, kept)
    member.call("POST", "/uploads", offer_for(old).to_document())
    for upload in web_hub.state.uploads.uploads():
        os.utime(upload.folder / "offer.json", (0, 0))
    hub, watch = web_hub.state, Background(web_hub.state)
    assert watch._clear() is False
    assert [u.offer.bundle_digest for u in hub.uploads.uploads()] == [
        offer_for(kept).bundle_digest
    ]  # fmt: skip
    with hub.registry.session() as session:  # accepted, and the runner died before it cleared up
        session.get_one(Cohort, offer_for(kept).bundle_digest).state = CohortState.ACCEPTED
    watch._clear()
    assert list(hub.uploads.uploads()) == []


def test_a_database_that_is_gone_is_said_so_without_its_address(
    web_hub: WebHub, member: SiteCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files()
    begun = member.call("POST", "/uploads", offer_for(files).to_document()).json()["upload_id"]
    path = f"/uploads/{begun}/shard-00000.h5"
    member.piece(path, 0, files["shard-00000.h5"][:500])

    def gone(_: object) -> None:
        raise DatabaseError("the database postgresql://secret@host/db does not answer", "")

    with monkeypatch.context() as broken:
        broken.setattr(type(web_hub.state.registry), "reading", gone)
        answer = member.piece(path, 500, files["shard-00000.h5"][500:])
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == Refusal.UNAVAILABLE and "secret" not in answer.text
    assert answer.headers["Retry-After"]
    assert member.piece(path, 500, files["shard-00000.h5"][500:]).status_code == 204
