"""Uploads on the disk: offsets, digests, locks, quotas, expiry."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from hub_server.uploads import Receiver, Upload, UploadSettings, UploadStore, receiving
from pixcell_share.errors import SettingsError, UploadError
from pixcell_share.wire import FileOffer, Refusal, UploadOffer
from tests.hub_server.upload_making import SMALL, make_files, offer_for

SITE = "a" * 32
SHARD = "shard-00000.h5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


@pytest.fixture
def uploads(folder: Path) -> UploadStore:
    return UploadStore(folder, SMALL)


def send(
    uploads: UploadStore, upload: Upload, name: str, offset: int, data: bytes, **digests: bytes
) -> int:
    """One request that comes whole."""
    receiver = uploads.receive(upload, uploads.file(upload, name))
    try:
        receiver.expect(offset, sha1="sha1" in digests)
        receiver.write(data)
        return receiver.accept(list(digests.items()))
    finally:
        receiver.close()


def send_all(uploads: UploadStore, upload: Upload, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        send(uploads, upload, name, 0, data)


def refusal(call: pytest.ExceptionInfo[UploadError]) -> str:
    return call.value.reason


def test_files_come_in_any_order_and_in_pieces(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    assert send(uploads, upload, SHARD, 0, files[SHARD][:1000]) == 1000
    for name in reversed(files):
        if name != SHARD:
            send(uploads, upload, name, 0, files[name])
    with pytest.raises(UploadError) as told:
        uploads.check_whole(upload)
    assert refusal(told) == Refusal.INCOMPLETE
    send(uploads, upload, SHARD, 1000, files[SHARD][1000:])
    uploads.check_whole(upload)
    assert {path.name: path.read_bytes() for path in upload.bundle.iterdir()} == files
    assert upload.received_bytes == upload.offer.total_bytes


def test_the_same_bundle_is_the_same_upload_also_for_another_process(
    uploads: UploadStore, folder: Path
) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 0, files[SHARD][:700])
    again = UploadStore(folder, SMALL).begin(SITE, offer_for(files))
    assert (again.id, again.offsets()[SHARD]) == (upload.id, 700)
    assert uploads.begin("b" * 32, offer_for(files)).id != upload.id


def test_another_site_does_not_see_an_upload(uploads: UploadStore) -> None:
    upload = uploads.begin(SITE, offer_for(make_files()))
    for site, name in (("b" * 32, upload.id), (SITE, "../" + upload.id), (SITE, "0" * 32)):
        with pytest.raises(UploadError) as told:
            uploads.find(site, name)
        assert refusal(told) == Refusal.NOT_FOUND


def test_a_wrong_offset_changes_nothing(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 0, files[SHARD][:100])
    for offset in (0, 99, 101, len(files[SHARD])):
        with pytest.raises(UploadError) as told:
            send(uploads, upload, SHARD, offset, b"x")
        assert refusal(told) == Refusal.WRONG_OFFSET
    assert upload.offsets()[SHARD] == 100


def test_a_file_has_one_writer(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    first = uploads.receive(upload, uploads.file(upload, SHARD))
    with pytest.raises(UploadError) as told:
        uploads.receive(upload, uploads.file(upload, SHARD))
    assert refusal(told) == Refusal.LOCKED
    send(uploads, upload, "audit.dsse.json", 0, files["audit.dsse.json"])  # another file may
    first.close()
    send(uploads, upload, SHARD, 0, files[SHARD])


def test_a_piece_that_was_changed_is_undone_and_what_was_there_stays(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    data = files[SHARD]
    send(uploads, upload, SHARD, 0, data[:500], sha256=hashlib.sha256(data[:500]).digest())
    for name, digest in (("sha256", b"0" * 32), ("sha1", b"0" * 20)):
        with pytest.raises(UploadError) as told:
            send(uploads, upload, SHARD, 500, data[500:900], **{name: digest})
        assert refusal(told) == Refusal.CHECKSUM
        assert upload.offsets()[SHARD] == 500
    send(uploads, upload, SHARD, 500, data[500:], sha1=hashlib.sha1(data[500:]).digest())
    assert (upload.bundle / SHARD).read_bytes() == data


def test_a_file_that_is_not_the_announced_one_is_emptied(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    wrong = b"\0" + files[SHARD][1:]
    with pytest.raises(UploadError) as told:
        send(uploads, upload, SHARD, 0, wrong)
    assert refusal(told) == Refusal.FILE_DIGEST
    assert upload.offsets()[SHARD] == 0
    send(uploads, upload, SHARD, 0, files[SHARD])


def test_what_came_of_a_request_that_broke_off_is_kept(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    receiver = uploads.receive(upload, uploads.file(upload, SHARD))
    receiver.write(files[SHARD][:123])
    receiver.keep()
    receiver.close()
    assert upload.offsets()[SHARD] == 123
    send(uploads, upload, SHARD, 123, files[SHARD][123:])


@pytest.mark.parametrize("written", [100, 150, 200])
def test_what_another_thread_was_writing_is_kept_once(uploads: UploadStore, written: int) -> None:
    """The hub stops while a thread has written all, a part or nothing of the last bytes."""
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    data = files[SHARD]
    receiver = uploads.receive(upload, uploads.file(upload, SHARD))
    receiver.write(data[:100])
    if written > 100:
        receiver.write(data[100:written])
    receiver.cut_off(data[100:200], 100)
    with pytest.raises(OSError, match="Bad file descriptor"):
        receiver.write(data[100:200])  # a thread that comes too late
    receiver.close()
    assert upload.part(SHARD).read_bytes() == data[:200]


def test_a_request_that_broke_off_after_the_last_byte_is_ended_by_one_byte(
    uploads: UploadStore,
) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    receiver = uploads.receive(upload, uploads.file(upload, SHARD))
    receiver.write(files[SHARD])
    receiver.keep()
    receiver.close()
    last = len(files[SHARD]) - 1
    assert upload.offsets()[SHARD] == last
    assert send(uploads, upload, SHARD, last, files[SHARD][last:]) == last + 1
    assert (upload.bundle / SHARD).read_bytes() == files[SHARD]


def test_more_than_was_announced_undoes_the_request(uploads: UploadStore) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 0, files[SHARD][:100])
    receiver = uploads.receive(upload, uploads.file(upload, SHARD))
    receiver.write(files[SHARD][100:200])
    with pytest.raises(UploadError) as told:
        receiver.write(b"x" * len(files[SHARD]))
    receiver.close()
    assert refusal(told) == Refusal.TOO_LARGE
    assert upload.offsets()[SHARD] == 100


def test_one_request_brings_no_more_than_the_settings_say(folder: Path) -> None:
    uploads = UploadStore(folder, replace(SMALL, request_bytes=1000))
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    with pytest.raises(UploadError) as told:
        send(uploads, upload, SHARD, 0, files[SHARD][:1001])
    assert refusal(told) == Refusal.TOO_LARGE
    assert send(uploads, upload, SHARD, 0, files[SHARD][:1000]) == 1000


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"files": 3}, Refusal.QUOTA),
        ({"file_bytes": 2999}, Refusal.QUOTA),
        ({"site_bytes": 5000}, Refusal.QUOTA),
        ({"disk_floor_bytes": 1 << 60}, Refusal.DISK_FULL),
    ],
)
def test_an_announcement_over_a_limit_leaves_nothing(
    folder: Path, limits: dict[str, int], reason: Refusal
) -> None:
    with pytest.raises(UploadError) as told:
        UploadStore(folder, replace(SMALL, **limits)).begin(SITE, offer_for(make_files()))
    assert refusal(told) == reason
    assert not list(folder.iterdir())


def test_a_quota_counts_what_is_stored_and_what_was_announced(folder: Path) -> None:
    each = offer_for(make_files()).total_bytes
    uploads = UploadStore(folder, replace(SMALL, site_bytes=2 * each + 100))
    uploads.begin(SITE, offer_for(make_files(1)))
    with pytest.raises(UploadError) as told:
        uploads.begin(SITE, offer_for(make_files(2)), stored_bytes=101)
    assert refusal(told) == Refusal.QUOTA
    uploads.begin("b" * 32, offer_for(make_files(2)), stored_bytes=100)  # each site has its own
    uploads.begin(SITE, offer_for(make_files(2)), stored_bytes=100)


def test_a_site_begins_no_more_than_a_few_uploads_at_once(uploads: UploadStore) -> None:
    first = uploads.begin(SITE, offer_for(make_files(1)))
    uploads.begin(SITE, offer_for(make_files(2)))
    with pytest.raises(UploadError) as told:
        uploads.begin(SITE, offer_for(make_files(3)))
    assert refusal(told) == Refusal.QUOTA
    send_all(uploads, first, make_files(1))  # whole: it waits for the intake, and does not count
    uploads.begin(SITE, offer_for(make_files(3)))


def test_large_side_files_are_not_announced(uploads: UploadStore) -> None:
    files = make_files()
    offer = offer_for(files)
    huge = replace(offer.files[1], size=5 << 20)
    with pytest.raises(UploadError) as told:
        uploads.begin(SITE, UploadOffer(offer.bundle_digest, (offer.files[0], huge)))
    assert refusal(told) == Refusal.QUOTA


def test_the_same_bundle_with_another_list_of_files_is_refused(uploads: UploadStore) -> None:
    offer = offer_for(make_files())
    uploads.begin(SITE, offer)
    with pytest.raises(UploadError) as told:
        uploads.begin(SITE, UploadOffer(offer.bundle_digest, offer.files[:-1]))
    assert refusal(told) == Refusal.CONFLICT


@pytest.mark.parametrize(
    "name",
    ["../evil.h5", "/etc/passwd", "shard-0.h5", "shard-00000.h5/x", "shard-00000.h5\0", "", ".",
     "shard-٠٠٠٠٠.h5", "ѕhard-00000.h5", "offer.json", "SHARD-00000.H5", "card.md "],
)  # fmt: skip
def test_only_the_names_of_a_bundle_may_be_announced(name: str) -> None:
    with pytest.raises(UploadError) as told:
        FileOffer(name, 1, "0" * 64)
    assert refusal(told) == Refusal.MALFORMED


@pytest.mark.parametrize(("size", "digest"), [(0, "0" * 64), (-1, "0" * 64), (1, "0" * 63)])
def test_sizes_and_digests_are_what_they_should_be(size: int, digest: str) -> None:
    with pytest.raises(UploadError):
        FileOffer("card.md", size, digest)


def test_a_full_disk_keeps_what_was_acknowledged(
    uploads: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 0, files[SHARD][:1000])
    with monkeypatch.context() as full:
        full.setattr(receiving, "free_bytes", lambda _: 0)
        with pytest.raises(UploadError) as told:
            send(uploads, upload, SHARD, 1000, files[SHARD][1000:])
    assert refusal(told) == Refusal.DISK_FULL
    assert upload.offsets()[SHARD] == 1000
    send(uploads, upload, SHARD, 1000, files[SHARD][1000:])


def test_a_disk_that_fills_while_writing_keeps_what_was_written(folder: Path) -> None:
    """The system's own limit on the size of a file stands for the disk (EFBIG for ENOSPC)."""
    program = """
import errno, resource, signal, sys
from pathlib import Path
from hub_server.uploads import UploadStore, receiving
from tests.hub_server.test_uploads_store import SITE, SHARD, send
from tests.hub_server.upload_making import SMALL, make_files, offer_for
receiving._FULL.add(errno.EFBIG)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
uploads, files = UploadStore(Path(sys.argv[1]), SMALL), make_files()
upload = uploads.begin(SITE, offer_for(files))
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    send(uploads, upload, SHARD, 0, files[SHARD])
except Exception as error:
    print(error.reason, upload.offsets()[SHARD])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["disk_full", "1500"]
    uploads, files = UploadStore(folder, SMALL), make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 1500, files[SHARD][1500:])


def test_a_killed_hub_loses_nothing(folder: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from hub_server.uploads import UploadStore
from tests.hub_server.test_uploads_store import SITE, SHARD
from tests.hub_server.upload_making import SMALL, make_files, offer_for
uploads, files = UploadStore(Path(sys.argv[1]), SMALL), make_files()
upload = uploads.begin(SITE, offer_for(files))
receiver = uploads.receive(upload, uploads.file(upload, SHARD))
receiver.write(files[SHARD][:777])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    uploads, files = UploadStore(folder, SMALL), make_files()
    upload = uploads.begin(SITE, offer_for(files))
    assert upload.offsets()[SHARD] == 777
    send(uploads, upload, SHARD, 777, files[SHARD][777:])  # the lock went with its process


def test_uploads_that_stand_still_expire_and_others_do_not(uploads: UploadStore) -> None:
    old, needed, fresh = (uploads.begin(site * 32, offer_for(make_files())) for site in "abc")
    long_ago = uploads.settings.expire_s + 10
    for upload in (old, needed):
        path = upload.folder / "offer.json"
        os.utime(path, (0, path.stat().st_mtime - long_ago))
    digest = needed.offer.bundle_digest
    assert uploads.expire([digest]) == []  # one bundle, two sites: the intake may read either
    gone = uploads.expire()
    assert {upload.id for upload in gone} == {old.id, needed.id}
    assert [upload.id for upload in uploads.uploads()] == [fresh.id]
    with pytest.raises(UploadError):
        uploads.find(old.site_id, old.id)


def test_an_upload_that_was_removed_can_be_begun_anew(uploads: UploadStore, folder: Path) -> None:
    files = make_files()
    upload = uploads.begin(SITE, offer_for(files))
    send(uploads, upload, SHARD, 0, files[SHARD])
    UploadStore(folder, SMALL).remove(upload.id)  # by another process, such as the intake's
    with pytest.raises(UploadError):
        uploads.find(SITE, upload.id)
    assert uploads.begin(SITE, offer_for(files)).received_bytes == 0
    uploads.remove(upload.id)
    uploads.remove(upload.id)
    assert not list(folder.iterdir())


def test_sites_that_begin_together_cannot_share_one_quota(folder: Path) -> None:
    uploads = UploadStore(folder, replace(SMALL, open_uploads=3))
    begun: list[str] = []

    def begin(seed: int) -> None:
        try:
            begun.append(uploads.begin(SITE, offer_for(make_files(seed))).id)
        except UploadError as error:
            assert error.reason == Refusal.QUOTA

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 3


def test_settings_must_be_above_nought() -> None:
    with pytest.raises(SettingsError, match=r"uploads\.stall_s"):
        UploadSettings(stall_s=0)


FATES = strategies.sampled_from(["whole", "cut", "changed"])


@settings(max_examples=30)
@given(strategies.lists(strategies.tuples(strategies.integers(1, 900), FATES), max_size=12))
def test_however_pieces_fail_the_file_comes_out_whole(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, str]]
) -> None:
    uploads, files = UploadStore(tmp_path_factory.mktemp("uploads"), SMALL), make_files()
    upload, data = uploads.begin(SITE, offer_for(files)), files[SHARD]
    for length, fate in [*plan, (len(data), "whole")]:
        offset = upload.offsets()[SHARD]
        if offset == len(data):
            break
        piece = data[offset : offset + length]
        digest = [("sha256", hashlib.sha256(piece).digest())]
        receiver = Receiver(upload, uploads.file(upload, SHARD), SMALL)
        receiver.write(piece if fate != "changed" else b"?" * len(piece))
        if fate == "cut":
            receiver.keep()
        elif fate == "whole":
            receiver.accept(digest)
        else:
            with pytest.raises(UploadError):
                receiver.accept(digest)
        receiver.close()
        came = offset + (len(piece) if fate != "changed" else 0)
        assert upload.offsets()[SHARD] == (min(came, len(data) - 1) if fate == "cut" else came)
    assert (upload.bundle / SHARD).read_bytes() == data
