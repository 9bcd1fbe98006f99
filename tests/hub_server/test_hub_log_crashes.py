"""The log is stopped at every step that it takes on the disk, and goes on from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hub_server.log import HubLog, verify_log
from hub_server.log.act import line_digest
from pixcell_share.bundles import SiteKey


class Stopped(BaseException):
    """No `except` in the program catches it: the program ends here, as by `kill -9`."""


@contextmanager
def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stop at the ``step``-th call that changes the disk; a write stops half way.

    Yields:
        The calls that were made.
    """
    made: list[str] = []
    write, replace = os.write, Path.replace

    def count(name: str) -> None:
        made.append(name)
        if len(made) == step:
            raise Stopped

    def torn_write(descriptor: int, data: bytes) -> int:
        try:
            count("write")
        except Stopped:
            write(descriptor, bytes(data)[: len(data) // 2])
            raise
        return write(descriptor, data)

    def counted(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object) -> object:
            count(name)
            return original(*words)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", torn_write)
        patch.setattr(os, "fsync", counted("fsync", os.fsync))
        patch.setattr(Path, "replace", counted("replace", replace))
        with suppress(Stopped):
            yield made


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("keys") / "hub.key")


def steps_of(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    with stopped_at(0, monkeypatch) as made:
        act()
    return len(made)


def say(log: HubLog, subject: str) -> None:
    log.append("x", actor="hub", subject=subject)


def subjects(log: HubLog) -> list[str]:
    return [act.subject for act in log.latest(100)[::-1] if act.act != "log.mend"]


def test_an_append_is_there_or_not_there_wherever_it_stops(
    tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HubLog(tmp_path / "count", key)
    say(first, "a")
    steps = steps_of(lambda: say(first, "b"), monkeypatch)
    assert steps >= 4  # a line, its fsync, the checkpoint's fsync, its rename
    found = []
    for step in range(1, steps + 1):
        log = HubLog(tmp_path / str(step), key)
        say(log, "a")
        with stopped_at(step, monkeypatch):
            say(log, "b")
        say(log, "c")
        found.append(subjects(log))
        verify_log(tmp_path / str(step), key.public)
    assert found[0] == ["a", "c"]
    assert found[-1] == ["a", "b", "c"]
    assert all(each in (found[0], found[-1]) for each in found)


def test_a_new_log_begins_wherever_the_first_act_stopped(
    tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(lambda: say(HubLog(tmp_path / "count", key), "a"), monkeypatch)
    for step in range(1, steps + 1):
        log = HubLog(tmp_path / str(step), key)
        with stopped_at(step, monkeypatch):
            say(log, "a")
        say(log, "b")
        assert subjects(log)[-1] == "b"
        verify_log(tmp_path / str(step), key.public)


def test_mending_that_stops_is_mended(
    tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole line that no checkpoint counts, and half a line: neither is lost."""

    def crashed(name: str) -> tuple[HubLog, bytes]:
        log = HubLog(tmp_path / name, key)
        say(log, "a")
        note = (tmp_path / name / "checkpoint").read_bytes()
        say(log, "b")
        (tmp_path / name / "checkpoint").write_bytes(note)
        torn = b'{"act":"x","actor":"h'
        with (tmp_path / name / "acts.jsonl").open("ab") as file:
            file.write(torn)
        return log, torn

    steps = steps_of(crashed("count")[0].mend, monkeypatch)
    assert steps >= 6
    for step in range(1, steps + 1):
        log, torn = crashed(str(step))
        with stopped_at(step, monkeypatch):
            log.mend()
        log.mend()
        assert subjects(log) == ["a", "b"]
        assert any(act.act == "log.mend" for act in log.latest(10))
        kept = tmp_path / str(step) / "torn" / line_digest(torn)
        assert kept.read_bytes() == torn
        verify_log(tmp_path / str(step), key.public)
