"""Uploads over the API: tus, limits on every way in, and what becomes of the bundle."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from hub_server.registry import Cohort, JobKind, JobState, cohorts, jobs
from hub_server.uploads import receiving
from hub_server.web.api.models import Offer
from pixcell_share.bundles import SiteKey
from pixcell_share.wire import Refusal
from tests.hub_server.upload_making import make_files, offer_for
from tests.hub_server.web_calls import PIECE, TUS, SiteCaller, WebHub

SHARD = "shard-00000.h5"


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def files() -> dict[str, bytes]:
    return make_files()


@pytest.fixture
def begun(member: SiteCaller, files: dict[str, bytes]) -> str:
    """The path of an upload."""
    answer = member.call("POST", "/uploads", offer_for(files).to_document())
    assert answer.status_code == 200, answer.text
    assert answer.json()["offsets"] == dict.fromkeys(files, 0)
    return f"/uploads/{answer.json()['upload_id']}"


def send_all(member: SiteCaller, begun: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        assert member.piece(f"{begun}/{name}", 0, data).status_code == 204


def offset(member: SiteCaller, path: str) -> int:
    answer = member.call("HEAD", path, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def test_a_bundle_is_sent_in_pieces_and_becomes_a_cohort_with_a_job(
    member: SiteCaller, web_hub: WebHub, begun: str, files: dict[str, bytes]
) -> None:
    path, data = f"{begun}/{SHARD}", files[SHARD]
    answer = member.piece(path, 0, data[:1000])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "1000")
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert parsedate_to_datetime(answer.headers["Upload-Expires"])
    head = member.call("HEAD", path, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("1000", "3000")
    assert head.headers["Cache-Control"] == "no-store"
    assert code_of(member.call("POST", f"{begun}/finish")) == (409, Refusal.INCOMPLETE)
    member.piece(path, 1000, data[1000:])
    send_all(member, begun, {name: data for name, data in files.items() if name != SHARD})
    digest = offer_for(files).bundle_digest
    for _ in range(2):  # an answer that was lost is asked for again
        done = member.call("POST", f"{begun}/finish")
        assert (done.status_code, done.json()["state"]) == (202, "uploaded")
    assert member.call("GET", f"/cohorts/{digest}").json()["cohort"] == digest
    with web_hub.state.registry.reading() as session:
        (job,) = jobs.list_jobs(session)
        assert (job.kind, job.state) == (JobKind.INTAKE, JobState.QUEUED)
        assert job.settings == {
            "cohort": digest, "upload": begun.split("/")[-1],
            "site": session.get_one(Cohort, digest).site_id, "key": member.key.key_id,
        }  # fmt: skip
    assert web_hub.state.log.latest(1)[0].act == "cohort.uploaded"


def test_the_same_bundle_is_found_again(
    member: SiteCaller, begun: str, files: dict[str, bytes]
) -> None:
    member.piece(f"{begun}/{SHARD}", 0, files[SHARD][:500])
    again = member.call("POST", "/uploads", offer_for(files).to_document()).json()
    assert (f"/uploads/{again['upload_id']}", again["offsets"][SHARD]) == (begun, 500)
    assert member.call("GET", begun).json()["offsets"][SHARD] == 500


def test_a_bundle_that_the_hub_has_is_not_taken_again(
    member: SiteCaller, web_hub: WebHub, begun: str, files: dict[str, bytes]
) -> None:
    send_all(member, begun, files)
    member.call("POST", f"{begun}/finish")
    document, digest = offer_for(files).to_document(), offer_for(files).bundle_digest
    assert member.call("POST", "/uploads", document).json()["cohort"]["state"] == "uploaded"
    assert code_of(member.call("DELETE", begun)) == (409, Refusal.CONFLICT)
    with web_hub.state.registry.session() as session:
        cohorts.reject(session, digest, "signature_wrong", "why")
    status = member.call("GET", f"/cohorts/{digest}").json()
    assert (status["state"], status["reason"], status["detail"]) == (
        "rejected", "signature_wrong", "why",
    )  # fmt: skip
    assert member.call("POST", "/uploads", document).json()["upload_id"]  # it may come again


def test_nobody_else_sees_or_feeds_an_upload(
    member: SiteCaller, web_hub: WebHub, other_key: SiteKey, begun: str, files: dict[str, bytes]
) -> None:
    other = web_hub.member("hospital-b", other_key)
    assert code_of(other.call("GET", begun)) == (404, Refusal.NOT_FOUND)
    assert code_of(other.piece(f"{begun}/{SHARD}", 0, b"x")) == (404, Refusal.NOT_FOUND)
    assert code_of(other.call("DELETE", begun)) == (404, Refusal.NOT_FOUND)
    assert other.call("HEAD", f"{begun}/{SHARD}", headers=TUS).status_code == 404
    send_all(member, begun, files)
    member.call("POST", f"{begun}/finish")
    digest = offer_for(files).bundle_digest
    assert code_of(other.call("GET", f"/cohorts/{digest}")) == (404, Refusal.NOT_FOUND)
    assert code_of(other.call("POST", "/uploads", offer_for(files).to_document())) == (
        409, Refusal.CONFLICT,
    )  # fmt: skip


def test_an_upload_can_be_given_up(member: SiteCaller, web_hub: WebHub, begun: str) -> None:
    assert member.call("DELETE", begun).status_code == 204
    assert code_of(member.call("DELETE", begun)) == (404, Refusal.NOT_FOUND)
    assert list(web_hub.state.uploads.uploads()) == []


def test_tus_is_offered_as_its_protocol_says(member: SiteCaller, begun: str) -> None:
    answer = member.http.options("/api/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "checksum,expiration,termination"
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha256,sha1"
    refused = member.call("HEAD", f"{begun}/{SHARD}", headers={"Tus-Resumable": "0.2.2"})
    assert (refused.status_code, refused.headers["Tus-Version"]) == (412, "1.0.0")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/octet-stream"}, 422),
        ({"Upload-Checksum": "md5 AAAA"}, 422),
        ({"Upload-Checksum": "sha1 !"}, 422),
        ({"Upload-Checksum": "sha1 " + base64.b64encode(b"0" * 20).decode()}, 460),
        ({"Upload-Offset": "5"}, 409),
        ({"Upload-Offset": "-1"}, 422),
    ],
)
def test_pieces_that_say_something_wrong_change_nothing(
    member: SiteCaller, begun: str, files: dict[str, bytes], headers: dict[str, str], status: int
) -> None:
    path = f"{begun}/{SHARD}"
    assert member.piece(path, 0, files[SHARD][:100], headers).status_code == status
    assert offset(member, path) == 0


def test_the_checksum_of_tus_is_checked_beside_the_signed_digest(
    member: SiteCaller, begun: str, files: dict[str, bytes]
) -> None:
    path, data = f"{begun}/{SHARD}", files[SHARD]
    for algorithm, begin in (("sha1", 0), ("sha256", 1500)):
        piece = data[begin : begin + 1500]
        digest = base64.b64encode(hashlib.new(algorithm, piece).digest()).decode()
        answer = member.piece(path, begin, piece, {"Upload-Checksum": f"{algorithm} {digest}"})
        assert answer.status_code == 204


def test_a_piece_that_was_changed_on_its_way_is_refused(
    member: SiteCaller, begun: str, files: dict[str, bytes]
) -> None:
    path, data = f"{begun}/{SHARD}", files[SHARD]
    member.piece(path, 0, data[:1000])
    answer = member.piece(path, 1000, b"?" * 500, signed_body=data[1000:1500])
    assert code_of(answer) == (460, Refusal.CHECKSUM)
    assert offset(member, path) == 1000


def test_a_file_that_is_another_one_is_refused_and_emptied(
    member: SiteCaller, begun: str, files: dict[str, bytes]
) -> None:
    path = f"{begun}/{SHARD}"
    assert code_of(member.piece(path, 0, b"?" * 3000)) == (460, Refusal.FILE_DIGEST)
    assert offset(member, path) == 0


def test_a_file_that_another_connection_sends_is_locked(
    member: SiteCaller, web_hub: WebHub, begun: str, files: dict[str, bytes]
) -> None:
    uploads = web_hub.state.uploads
    (upload,) = uploads.uploads()
    receiver = uploads.receive(upload, uploads.file(upload, SHARD))
    answer = member.piece(f"{begun}/{SHARD}", 0, files[SHARD])
    assert code_of(answer) == (423, Refusal.LOCKED)
    receiver.close()
    assert member.piece(f"{begun}/{SHARD}", 0, files[SHARD]).status_code == 204


def endless(size: int) -> Iterator[bytes]:
    """A body without a Content-Length."""
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("announced", [None, "10", "3000"])
def test_more_than_was_announced_is_refused_whatever_the_length_says(
    member: SiteCaller, begun: str, announced: str | None
) -> None:
    path, body = f"{begun}/{SHARD}", b"x" * 50_000
    headers = {**PIECE, "Upload-Offset": "0"}
    headers |= member.signature("PATCH", path, body, headers)
    if announced is not None:
        headers["Content-Length"] = announced  # the test client passes the lie on to the app
    answer = member.http.patch(f"/api/v1{path}", content=endless(50_000), headers=headers)
    assert code_of(answer) == (413, Refusal.TOO_LARGE)
    assert offset(member, path) == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/join"), ("POST", "/api/v1/session"), ("POST", "/login"),
     ("POST", "/api/v1/uploads"), ("POST", "/api/v1/keys"), ("DELETE", "/api/v1/uploads/x"),
     ("GET", "/api/v1/hub"), ("POST", "/api/v1/uploads/x/finish"), ("PUT", "/nowhere")],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_no_way_in_takes_a_large_body(
    web_hub: WebHub, method: str, path: str, chunked: bool
) -> None:
    body: Any = endless(2_000_000) if chunked else b"x" * 2_000_000
    kind = "application/x-www-form-urlencoded" if path == "/login" else "application/json"
    answer = web_hub.browser().request(method, path, content=body, headers={"Content-Type": kind})
    reads_nothing = answer.status_code in (401, 404, 405, 422) and chunked
    assert answer.status_code == 413 or reads_nothing, answer.text


def test_a_full_disk_is_said_so_and_nothing_is_lost(
    member: SiteCaller, begun: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{begun}/{SHARD}"
    member.piece(path, 0, files[SHARD][:1000])
    with monkeypatch.context() as full:
        full.setattr(receiving, "free_bytes", lambda _: 0)
        answer = member.piece(path, 1000, files[SHARD][1000:])
    assert code_of(answer) == (507, Refusal.DISK_FULL)
    assert answer.headers["Retry-After"]
    assert member.piece(path, 1000, files[SHARD][1000:]).status_code == 204


def test_an_announcement_is_strict(member: SiteCaller, files: dict[str, bytes]) -> None:
    good = offer_for(files).to_document()
    first = good["files"][0]
    for bad in (
        {**good, "more": 1},
        {**good, "bundle_digest": "0" * 64},
        {**good, "files": [*good["files"], first]},
        {**good, "files": [{**first, "size": "400"}]},
        {**good, "files": [{**first, "name": "../manifest.dsse.json"}]},
        {**good, "files": []},
    ):
        answer = member.call("POST", "/uploads", bad)
        assert code_of(answer) == (422, Refusal.MALFORMED)
        assert "../" not in answer.text
    deep = b"[" * 200_000
    assert member.call("POST", "/uploads", body=deep).status_code in (400, 401, 422)


def test_the_largest_bundle_fits_into_one_announcement() -> None:
    names = [f"shard-{n:05d}.h5" for n in range(3000)]
    files = [{"name": n, "size": 2**31, "sha256": "0" * 64} for n in names]
    offer = Offer.model_validate({"bundle_digest": "0" * 64, "files": files})
    assert len(offer.model_dump_json()) < 1 << 20


def test_no_answer_names_a_folder_of_the_hub(
    member: SiteCaller, web_hub: WebHub, begun: str, files: dict[str, bytes]
) -> None:
    answers = [
        member.piece(f"{begun}/{SHARD}", 9, b"x"),
        member.piece(f"{begun}/card.md", 0, b"x"),
        member.call("GET", "/uploads/" + "0" * 32),
        member.call("POST", f"{begun}/finish"),
    ]
    shutil.rmtree(web_hub.home.uploads / begun.split("/")[-1] / "parts")  # a fault of the hub's own
    broken = member.piece(f"{begun}/{SHARD}", 0, files[SHARD])
    assert code_of(broken) == (503, Refusal.UNAVAILABLE)
    for answer in [*answers, broken]:
        assert str(web_hub.home.folder) not in answer.text
        assert "/tmp" not in answer.text
