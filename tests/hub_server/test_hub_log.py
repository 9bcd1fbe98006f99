"""The hub's log: what it keeps through crashes, and whom it catches."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hub_server.log import Act, HubLog, read_checkpoint, verify_log
from hub_server.log.act import MAX_LINE_BYTES, line_digest
from hub_server.log.checkpoint import Checkpoint
from hub_server.log.files import LogFiles
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import HubLogError, StorageError


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("keys") / "hub.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def fill(folder: Path, key: SiteKey, count: int, start: int = 0) -> HubLog:
    log = HubLog(folder, key)
    for number in range(start, start + count):
        log.append("site.admit", actor="account:anna", subject=f"Köln {number}", details={"n": 1})
    return log


def whole(log: HubLog) -> list[Act]:
    return log.latest(1000)[::-1]


def test_acts_are_kept_as_they_were_said(folder: Path, key: SiteKey) -> None:
    log = HubLog(folder, key)
    said = log.append(
        "cohort.reject", actor="hub", subject="ab" * 32, details={"reason": "Zeile\n\u2028<b>"}
    )
    assert (said.sequence, said.act, said.actor) == (1, "cohort.reject", "hub")
    assert whole(log) == [said]
    assert verify_log(folder, key.public).checkpoint.size == 1
    (line,) = (folder / "acts.jsonl").read_bytes().splitlines()
    assert json.loads(line)["details"] == {"reason": "Zeile\n\u2028<b>"}
    assert (folder / "acts.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_latest_come_first_page_by_page(folder: Path, key: SiteKey) -> None:
    log = fill(folder, key, 7)
    assert [act.sequence for act in log.latest(3)] == [7, 6, 5]
    assert [act.sequence for act in log.latest(3, before=5)] == [4, 3, 2]
    assert [act.sequence for act in log.latest(3, before=2)] == [1]
    assert log.latest(3, before=1) == []
    assert HubLog(folder.with_name("new"), key).latest(3) == []


def test_long_lines_are_read_backwards_too(folder: Path, key: SiteKey) -> None:
    log = HubLog(folder, key)
    for size in (40_000, 65_000, 10, 60_000):
        log.append("x", actor="hub", subject="s", details={"text": "y" * size})
    assert [len(act.details["text"]) for act in log.latest(9)] == [60_000, 10, 65_000, 40_000]


def test_what_cannot_be_said_in_a_line_is_a_mistake(folder: Path, key: SiteKey) -> None:
    log = fill(folder, key, 1)
    for details in ({"text": "y" * MAX_LINE_BYTES}, {"x": float("nan")}):
        with pytest.raises(ValueError, match=r"bytes|JSON"):
            log.append("x", actor="hub", subject="s", details=details)
    assert verify_log(folder, key.public).checkpoint.size == 1


def test_the_checkpoint_is_a_signed_note(folder: Path, key: SiteKey) -> None:
    """Checked by the text of https://c2sp.org/signed-note, with nothing of ours but the file."""
    note = fill(folder, key, 5).checkpoint().decode()
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    dash, name, encoded = signatures.removesuffix("\n").split(" ")
    raw = load_pem_public_key(key.public_pem)
    assert isinstance(raw, Ed25519PublicKey)
    blob = base64.b64decode(encoded, validate=True)
    key_id = hashlib.sha256(f"{name}\n".encode() + b"\x01" + raw.public_bytes_raw()).digest()[:4]
    assert (dash, blob[:4]) == ("—", key_id)
    raw.verify(blob[4:], text.encode())
    origin, size, root, *extensions = text.splitlines()
    assert (origin, size) == (name, "5")
    assert base64.b64decode(root) == read_checkpoint(note.encode(), key.public).root
    assert all(extensions)


def test_a_changed_byte_of_the_acts_is_found(folder: Path, key: SiteKey) -> None:
    fill(folder, key, 3)
    path = folder / "acts.jsonl"
    data = path.read_bytes()
    for place in (*range(0, len(data), 5), len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(HubLogError):
            verify_log(folder, key.public)
    path.write_bytes(data)
    verify_log(folder, key.public)


def test_every_changed_byte_of_the_checkpoint_is_found(folder: Path, key: SiteKey) -> None:
    fill(folder, key, 3)
    path = folder / "checkpoint"
    note = path.read_bytes()
    for place in range(len(note)):
        for bit in (1, 16):
            changed = note[:place] + bytes([note[place] ^ bit]) + note[place + 1 :]
            with pytest.raises(HubLogError):
                read_checkpoint(changed, key.public)
    for other in (b"", note[:-1], note + b"\n", note + note):
        with pytest.raises(HubLogError):
            read_checkpoint(other, key.public)


def rewrite(folder: Path, lines: list[bytes]) -> None:
    (folder / "acts.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize(
    "order",
    [[0, 1, 3], [1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 3, 3], [0, 1, 2], [0, 1, 1, 3], []],
    ids=["removed", "first removed", "moved", "doubled", "cut", "replaced", "emptied"],
)
def test_lines_that_are_gone_or_elsewhere_are_found(
    folder: Path, key: SiteKey, order: list[int]
) -> None:
    fill(folder, key, 4)
    lines = (folder / "acts.jsonl").read_bytes().splitlines()
    rewrite(folder, [lines[place] for place in order])
    with pytest.raises(HubLogError):
        verify_log(folder, key.public)


def test_the_hub_itself_goes_on_with_no_damaged_log(folder: Path, key: SiteKey) -> None:
    log = fill(folder, key, 3)
    path, data = folder / "acts.jsonl", (folder / "acts.jsonl").read_bytes()
    for damaged in (data[:-10], b"", data[:-10] + b"x" * 10):
        path.write_bytes(damaged)
        with pytest.raises(HubLogError):
            log.append("x", actor="hub", subject="s")
        assert path.read_bytes() == damaged
    path.write_bytes(data)
    (folder / "checkpoint").unlink()
    with pytest.raises(HubLogError, match="no checkpoint"):
        log.append("x", actor="hub", subject="s")
    with pytest.raises(HubLogError, match="no checkpoint"):
        verify_log(folder, key.public)


def test_a_rewritten_past_is_found_though_all_is_signed_anew(
    folder: Path, key: SiteKey, tmp_path: Path
) -> None:
    """Whoever holds the hub's key can sign another log, and only a kept checkpoint tells."""
    kept = fill(folder, key, 3).checkpoint()
    fill(folder, key, 2, start=3)
    assert verify_log(folder, key.public, kept).older == read_checkpoint(kept, key.public)
    other = tmp_path / "other"
    fill(other, key, 5, start=1)
    assert verify_log(other, key.public).checkpoint.size == 5
    with pytest.raises(HubLogError, match="forked or written anew"):
        verify_log(other, key.public, kept)


def test_a_fork_is_found(folder: Path, key: SiteKey, tmp_path: Path) -> None:
    fill(folder, key, 3)
    fork = tmp_path / "fork"
    shutil.copytree(folder, fork)
    kept = fill(folder, key, 2).checkpoint()
    fill(fork, key, 4, start=50)
    with pytest.raises(HubLogError, match="forked"):
        verify_log(fork, key.public, kept)


def test_a_rolled_back_log_is_found(folder: Path, key: SiteKey, tmp_path: Path) -> None:
    fill(folder, key, 3)
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    kept = fill(folder, key, 1).checkpoint()
    assert verify_log(backup, key.public).checkpoint.size == 3
    with pytest.raises(HubLogError, match="rolled back"):
        verify_log(backup, key.public, kept)
    with pytest.raises(HubLogError):  # and an older checkpoint does not go with the newer acts
        shutil.copy(backup / "checkpoint", folder / "checkpoint")
        verify_log(folder, key.public)


def test_another_hubs_log_is_named(folder: Path, key: SiteKey, tmp_path: Path) -> None:
    fill(folder, key, 1)
    stranger = SiteKey.create(tmp_path / "other.key")
    with pytest.raises(HubLogError, match="the hub's key is"):
        verify_log(folder, stranger.public)
    with pytest.raises(HubLogError):
        HubLog(folder, stranger).append("x", actor="hub", subject="s")


def crash_after(folder: Path, tail: bytes) -> None:
    """What a crash leaves: bytes behind those that the checkpoint counts."""
    with (folder / "acts.jsonl").open("ab") as file:
        file.write(tail)


@pytest.mark.parametrize("length", [1, 40, -1])
def test_a_torn_line_is_moved_away_and_said_so(
    folder: Path, key: SiteKey, tmp_path: Path, length: int
) -> None:
    log = fill(folder, key, 2)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    fill(copy, key, 1, start=2)
    torn = (copy / "acts.jsonl").read_bytes().splitlines()[-1][:length]
    crash_after(folder, torn)
    with pytest.raises(HubLogError, match="has not signed"):
        verify_log(folder, key.public)
    log.append("x", actor="hub", subject="s")
    mend = whole(log)[2]
    assert (mend.act, mend.actor) == ("log.mend", "hub")
    assert mend.details == {
        "kept_acts": 0,
        "torn_bytes": len(torn),
        "torn_sha256": line_digest(torn),
    }
    assert (folder / "torn" / line_digest(torn)).read_bytes() == torn
    assert verify_log(folder, key.public).checkpoint.size == 4


def test_a_whole_line_that_was_not_signed_for_is_kept(
    folder: Path, key: SiteKey, tmp_path: Path
) -> None:
    log = fill(folder, key, 2)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    fill(copy, key, 1, start=7)
    kept = (copy / "acts.jsonl").read_bytes().splitlines()[-1]
    crash_after(folder, kept + b"\n" + kept[:20])
    log.mend()
    acts = whole(log)
    assert [act.subject for act in acts] == ["Köln 0", "Köln 1", "Köln 7", "log"]
    assert acts[-1].details["kept_acts"] == 1
    assert acts[-1].details["torn_bytes"] == 20
    verify_log(folder, key.public)


@pytest.mark.parametrize("tail", [b"\0" * 300, b"\0" * 30 + b"\n" + b"\0" * 30, b"\n\n{}\n"])
def test_what_a_power_cut_leaves_is_no_act(folder: Path, key: SiteKey, tail: bytes) -> None:
    log = fill(folder, key, 1)
    crash_after(folder, tail)
    log.mend()
    assert [act.act for act in whole(log)] == ["site.admit", "log.mend"]
    assert (folder / "torn" / line_digest(tail)).read_bytes() == tail
    verify_log(folder, key.public)


def test_a_full_disk_leaves_the_log_as_it_was(
    folder: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fill(folder, key, 1)
    before = (folder / "acts.jsonl").read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, bytes(data)[:7])
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="disk is full"):
        patch.setattr(os, "write", full)
        log.append("x", actor="hub", subject="s")
    assert (folder / "acts.jsonl").read_bytes() == before
    log.append("x", actor="hub", subject="s")
    assert [act.act for act in whole(log)] == ["site.admit", "x"]


def test_a_clock_set_back_does_not_turn_the_log_around(folder: Path, key: SiteKey) -> None:
    ahead = datetime(2099, 1, 1, tzinfo=UTC)
    LogFiles(folder).folder.mkdir()
    LogFiles(folder).write_checkpoint(Checkpoint.empty(key.public, ahead).sign(key))
    log = fill(folder, key, 2)
    assert [act.time for act in whole(log)] == [ahead, ahead]
    verify_log(folder, key.public)


def test_appending_does_not_read_the_log(
    folder: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand acts are written at once; one more reads no more than the longest line."""
    log = fill(folder, key, 1)
    mark, files = (
        read_checkpoint((folder / "checkpoint").read_bytes(), key.public),
        LogFiles(folder),
    )
    with files.acts.open("ab") as file:
        for sequence in range(2, 2002):
            act = Act(sequence, mark.last, mark.time, "hub", "x", "s", {"pad": "y" * 100})
            line = act.to_line()
            file.write(line + b"\n")
            mark = mark.after(line, mark.time)
    files.write_checkpoint(mark.sign(key))
    read: list[int] = []
    original = LogFiles.read

    def counted(self: LogFiles, start: int, end: int) -> bytes:
        read.append(end - start)
        return original(self, start, end)

    monkeypatch.setattr(LogFiles, "read", counted)
    log.append("x", actor="hub", subject="s")
    assert files.size() > 5 * MAX_LINE_BYTES
    assert sum(read) <= MAX_LINE_BYTES
    assert verify_log(folder, key.public).checkpoint.size == 2002


def test_threads_at_once_lose_nothing(folder: Path, key: SiteKey) -> None:
    workers = [
        threading.Thread(target=fill, args=(folder, key, 8, 100 * number)) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    subjects = {act.subject for act in whole(HubLog(folder, key))}
    assert subjects == {f"Köln {100 * n + i}" for n in range(4) for i in range(8)}
    verify_log(folder, key.public)


_WRITER = """
import sys
from pathlib import Path
from hub_server.log import HubLog
from pixcell_share.bundles import SiteKey
log = HubLog(Path(sys.argv[1]), SiteKey.load(Path(sys.argv[2])))
number = 0
while True:
    act = log.append("x", actor=sys.argv[3], subject=str(number))
    print(act.sequence, act.subject, flush=True)
    number += 1
"""


def test_processes_that_are_killed_lose_nothing_that_they_said(
    folder: Path, tmp_path: Path
) -> None:
    key = SiteKey.create(tmp_path / "hub.key")
    command = [sys.executable, "-c", _WRITER, str(folder), str(tmp_path / "hub.key")]
    writers = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in ("a", "b")
    }
    said: dict[int, tuple[str, str]] = {}
    for name, writer in writers.items():
        assert writer.stdout is not None
        for _ in range(20):
            sequence, subject = writer.stdout.readline().decode().split()
            said[int(sequence)] = (name, subject)
    for name, writer in writers.items():
        writer.kill()
        assert writer.stdout is not None
        for line in writer.stdout.read().decode().splitlines(keepends=True):
            if line.endswith("\n"):
                sequence, subject = line.split()
                said[int(sequence)] = (name, subject)
        writer.wait()
        writer.stdout.close()
    log = HubLog(folder, key)
    log.mend()
    kept = {act.sequence: (act.actor, act.subject) for act in log.latest(100_000)}
    assert said.items() <= kept.items()
    verify_log(folder, key.public)
