"""The ledger: it charges once, never forgets, and notices whoever makes it forget."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.errors import LedgerError, ReleaseRefusedError, SettingsError, StorageError
from pixcell_share.privacy.ledger import (
    Budget,
    Exposure,
    Ledger,
    Mark,
    Total,
    describe,
    files,
    lines,
)

BUDGET = Budget()
PLAIN = Exposure(None, 0.0, 10)
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BUNDLE = hashlib.sha256(b"bundle").hexdigest()


def release(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def private(epsilon: float, delta: float = 1e-6) -> Exposure:
    return Exposure(epsilon, delta, 10)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SiteKey:
    return SiteKey.create(tmp_path_factory.mktemp("ledger key") / "site.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path, key: SiteKey) -> Ledger:
    return Ledger(folder, key)


def spend_three(ledger: Ledger) -> None:
    for number in range(3):
        ledger.spend(release(number), {"p1": private(1.0), "p2": private(2.0)}, BUDGET)


# -- charging -----------------------------------------------------------------------------


def test_exposures_add_up_by_patient(ledger: Ledger) -> None:
    ledger.spend(release(1), {"p1": private(1.5, 1e-5), "p2": PLAIN}, BUDGET)
    spent = ledger.spend(release(2), {"p1": private(2.0, 2e-5), "p3": PLAIN}, BUDGET)
    assert spent.patients == 2
    assert spent.largest == Total(epsilon=3.5, delta=pytest.approx(3e-5), releases=1, tiles=20)
    totals = ledger.verify().totals()
    assert totals[ledger.pseudonym("p1")].epsilon == 3.5
    assert totals[ledger.pseudonym("p2")] == Total(releases=1, tiles=10)
    assert len(totals) == 3


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (private(6.0), private(4.1), "epsilon would come to 10.1 of 10 for 1 of 2 patients"),
        (private(1.0, 6e-4), private(1.0, 5e-4), "delta would come to 0.0011 of 0.001"),
    ],
)
def test_a_release_that_would_pass_the_budget_is_refused(
    ledger: Ledger, first: Exposure, second: Exposure, words: str
) -> None:
    ledger.spend(release(1), {"alice": first}, BUDGET)
    before = ledger.verify()
    with pytest.raises(ReleaseRefusedError) as caught:
        ledger.spend(release(2), {"alice": second, "bob": second}, BUDGET)
    assert words in caught.value.cause
    assert "alice" not in caught.value.cause + caught.value.remedy
    assert ledger.pseudonym("alice") not in caught.value.cause
    assert caught.value.exit_code == 4
    assert ledger.verify() == before, "no one was charged, bob neither"


def test_a_fourth_release_without_privacy_is_refused(ledger: Ledger) -> None:
    for number in range(3):
        ledger.spend(release(number), {"p1": PLAIN}, BUDGET)
    with pytest.raises(ReleaseRefusedError, match="releases would come to 4 of 3"):
        ledger.spend(release(3), {"p1": PLAIN}, BUDGET)
    assert ledger.spend(release(3), {"p2": PLAIN}, BUDGET).largest.releases == 1
    assert ledger.spend(release(4), {"p1": private(1.0)}, BUDGET).largest.epsilon == 1.0


def test_ten_tenths_make_one(ledger: Ledger) -> None:
    budget = Budget(epsilon=1.0)
    for number in range(10):
        spent = ledger.spend(release(number), {"p1": private(0.1)}, budget)
    assert spent.largest.epsilon == pytest.approx(1.0)
    with pytest.raises(ReleaseRefusedError):
        ledger.spend(release(10), {"p1": private(1e-6)}, budget)


def test_the_same_release_is_charged_once(ledger: Ledger) -> None:
    first = ledger.spend(release(1), {"p1": PLAIN}, BUDGET)
    ledger.spend(release(2), {"p1": PLAIN}, BUDGET)
    assert ledger.spend(release(1), {"p1": PLAIN}, BUDGET) == first, "the figures repeat"
    assert ledger.verify().totals()[ledger.pseudonym("p1")].releases == 2
    with pytest.raises(LedgerError, match="charged before for other"):
        ledger.spend(release(1), {"p2": PLAIN}, BUDGET)


def test_a_spend_that_never_came_back_stays_spent(folder: Path, key: SiteKey) -> None:
    budget = Budget(releases=1)
    Ledger(folder, key).spend(release("killed before it signed"), {"p1": PLAIN}, budget)
    with pytest.raises(ReleaseRefusedError):
        Ledger(folder, key).spend(release("another"), {"p1": PLAIN}, budget)


def test_a_smaller_budget_holds_for_what_was_spent_but_not_signed(ledger: Ledger) -> None:
    ledger.spend(release(1), {"p1": private(5.0)}, BUDGET)
    with pytest.raises(ReleaseRefusedError, match="5 of 4"):
        ledger.spend(release(1), {"p1": private(5.0)}, Budget(epsilon=4.0))


def test_reckoning_charges_no_one(ledger: Ledger, folder: Path) -> None:
    ledger.spend(release(1), {"p1": private(6.0)}, BUDGET)
    before = (folder / "ledger.jsonl").read_bytes()
    coming = ledger.reckon(release(2), {"p1": private(6.0)}, BUDGET)
    assert coming.mark is None
    assert coming.largest.epsilon == 12.0
    assert coming.passed == {"epsilon": 1}
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert ledger.reckon(release(1), {"p1": private(6.0)}, BUDGET).mark is not None


def test_settling_notes_the_bundle_once(ledger: Ledger) -> None:
    ledger.spend(release(1), {"p1": PLAIN}, BUDGET)
    mark = ledger.settle(release(1), BUNDLE)
    assert ledger.settle(release(1), BUNDLE) == mark
    state = ledger.verify()
    assert state.mark == mark == Mark(2, mark.digest)
    assert state.releases[0].bundles == (BUNDLE,)
    with pytest.raises(LedgerError, match="was not asked for"):
        ledger.settle(release(2), BUNDLE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": float("nan"), "delta": 0.0, "tiles": 1},
        {"epsilon": -1.0, "delta": 0.0, "tiles": 1},
        {"epsilon": 0.0, "delta": 0.0, "tiles": 1},
        {"epsilon": None, "delta": 0.1, "tiles": 1},
        {"epsilon": 1.0, "delta": 1.0, "tiles": 1},
        {"epsilon": 1.0, "delta": 0.0, "tiles": 0},
    ],
)
def test_an_exposure_that_cannot_be_added_up(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"epsilon|delta|tiles"):
        Exposure(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": float("inf")}, {"delta": -1.0}, {"releases": 1.5}, {"releases": True}]
)
def test_a_budget_that_is_none(wrong: dict) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Budget(**wrong)


# -- privacy of the files -----------------------------------------------------------------


def test_no_patient_is_named_and_no_one_else_may_read(ledger: Ledger, folder: Path) -> None:
    old = os.umask(0)
    try:
        ledger.spend(release(1), {"Erika Mustermann": PLAIN, "p-00017": PLAIN}, BUDGET)
        ledger.settle(release(1), BUNDLE)
    finally:
        os.umask(old)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["ledger.head", "ledger.jsonl", "ledger.lock"]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"Mustermann" not in path.read_bytes()
        assert b"00017" not in path.read_bytes()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_pseudonyms_need_the_key(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    other = Ledger(folder, SiteKey.create(tmp_path / "other.key"))
    assert ledger.pseudonym("p1") != other.pseudonym("p1")
    assert ledger.pseudonym("Mu\u0308ller") == ledger.pseudonym("M\u00fcller")
    assert len(ledger.pseudonym("p1")) == 32


def test_the_summary_names_no_one(ledger: Ledger) -> None:
    ledger.spend(release(1), {"p1": PLAIN, "p2": private(2.5)}, BUDGET)
    ledger.settle(release(1), BUNDLE)
    ledger.spend(release(2), {"p1": PLAIN}, Budget(releases=2))
    state = ledger.verify()
    values = describe(state, Budget(releases=2))
    assert values["patients"] == 2
    assert values["patients_by_releases"] == {"0": 1, "2": 1}
    assert values["patients_without_releases_left"] == 1
    assert [entry["bundles"] for entry in values["releases"]] == [[BUNDLE], []]
    text = "\n".join(lines(state, Budget(releases=2)))
    assert "2 of 2 releases" in text
    assert "epsilon 2.5 of 10" in text
    assert "spent and never signed" in text
    for name in state.totals():
        assert name not in text + json.dumps(values)


# -- tampering ----------------------------------------------------------------------------


def _edit(change: Callable[[list[bytes]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        held = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
        change(held)
        (folder / "ledger.jsonl").write_bytes(b"".join(held))

    return edit


def _replaced(number: int, old: bytes, new: bytes) -> Callable[[list[bytes]], object]:
    def change(held: list[bytes]) -> None:
        assert old in held[number]
        held[number] = held[number].replace(old, new, 1)

    return change


def _head_of(sequence: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        head = json.loads((folder / "ledger.head").read_text())
        (folder / "ledger.head").write_text(json.dumps(head | {"sequence": sequence}))

    return edit


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "epsilon edited": (_edit(_replaced(0, b'"epsilon":1.0', b'"epsilon":0.1')), "line 1"),
    "last line edited": (_edit(_replaced(2, b'"tiles":10', b'"tiles":11')), "line 3"),
    "patient removed": (_edit(_replaced(1, b'"exposures":{"', b'"exposures":{"0')), "line 2"),
    "time edited": (_edit(_replaced(1, b'"time":"2', b'"time":"1')), "line 2"),
    "spacing edited": (_edit(_replaced(2, b'"tiles":10', b'"tiles": 10')), "not its head's"),
    "signature edited": (_edit(_replaced(1, b'"signature":"', b'"signature":"00')), "line 2"),
    "no JSON": (_edit(lambda held: held.__setitem__(1, b"nonsense\n")), "not an entry"),
    "deep JSON": (_edit(lambda held: held.__setitem__(1, b"[" * 99999 + b"\n")), "not an entry"),
    "blank line": (_edit(lambda held: held.insert(1, b"\n")), "not an entry"),
    "first line removed": (_edit(lambda held: held.pop(0)), "does not follow"),
    "middle line removed": (_edit(lambda held: held.pop(1)), "does not follow"),
    "lines swapped": (_edit(lambda held: held.insert(0, held.pop(1))), "does not follow"),
    "line repeated": (_edit(lambda held: held.append(held[-1])), "does not follow"),
    "tail removed": (_edit(lambda held: held.pop()), "was cut or rolled back"),
    "tail torn": (_edit(lambda held: held.__setitem__(2, held[2][:50])), "cut or rolled back"),
    "all lines removed": (_edit(lambda held: held.clear()), "was cut or rolled back"),
    "lines file removed": (lambda f: (f / "ledger.jsonl").unlink(), "was cut or rolled back"),
    "head removed": (lambda f: (f / "ledger.head").unlink(), "no head"),
    "head edited": (_head_of(2), "head of the ledger was edited"),
    "head of nonsense": (lambda f: (f / "ledger.head").write_text("{}"), "cannot be read"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_noticed(ledger: Ledger, folder: Path, name: str) -> None:
    spend_three(ledger)
    ledger.verify()
    change, words = TAMPERED[name]
    change(folder)
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    for act in (
        ledger.verify,
        lambda: ledger.spend(release(9), {"p9": PLAIN}, BUDGET),
        lambda: ledger.settle(release(0), BUNDLE),
    ):
        with pytest.raises(LedgerError) as caught:
            act()
        assert words in caught.value.cause
        assert caught.value.remedy
    assert held == {path.name: path.read_bytes() for path in folder.iterdir()}, "evidence is kept"


def test_another_key_cannot_go_on_with_a_ledger(ledger: Ledger, folder: Path, tmp_path: Path):
    spend_three(ledger)
    with pytest.raises(LedgerError, match="another key"):
        Ledger(folder, SiteKey.create(tmp_path / "other.key")).verify()


def test_a_ledger_rolled_back_with_its_head_is_noticed_by_who_remembers(
    ledger: Ledger, folder: Path, key: SiteKey, tmp_path: Path
) -> None:
    ledger.spend(release(1), {"p1": PLAIN}, BUDGET)
    shutil.copytree(folder, tmp_path / "backup")
    known = ledger.spend(release(2), {"p1": PLAIN}, BUDGET).mark
    assert known == ledger.verify().mark
    assert Ledger(folder, key, at_least=known).verify().mark == known
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    ledger.verify()  # nothing in the folder itself tells
    with pytest.raises(LedgerError, match="rolled back"):
        Ledger(folder, key, at_least=known).verify()
    ledger.spend(release(3), {"p2": PLAIN}, BUDGET)  # as long again, with another entry
    with pytest.raises(LedgerError, match="rolled back"):
        Ledger(folder, key, at_least=known).spend(release(4), {"p1": PLAIN}, BUDGET)
    shutil.rmtree(folder)
    with pytest.raises(LedgerError, match="rolled back"):
        Ledger(folder, key, at_least=known).verify()


# -- the clock ----------------------------------------------------------------------------


def test_a_clock_set_back_is_refused_and_a_small_step_is_not(folder: Path, key: SiteKey) -> None:
    def at(time: datetime) -> Ledger:
        return Ledger(folder, key, now=lambda: time)

    at(START).spend(release(1), {"p1": PLAIN}, BUDGET)
    at(START - timedelta(minutes=9)).spend(release(2), {"p1": PLAIN}, BUDGET)
    assert [r.time for r in at(START).verify().releases] == [START, START]
    with pytest.raises(LedgerError, match="clock was set back"):
        at(START - timedelta(minutes=11)).spend(release(3), {"p1": PLAIN}, BUDGET)
    assert len(at(START).verify().releases) == 2
    east = START.astimezone(tz=None) + timedelta(hours=1)
    at(east).spend(release(3), {"p1": PLAIN}, BUDGET)
    assert at(east).verify().releases[-1].time == START + timedelta(hours=1)


# -- crashes ------------------------------------------------------------------------------


def _in_a_child(act: Callable[[], object]) -> int:
    """Run ``act`` in a forked process; its exit status, 77 where it was killed on the way."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _dies(*_: object) -> None:
    os._exit(77)


def _dies_half_way(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data[: len(data) // 2])
    os._exit(77)


STAGES = {
    "before the line": ("_append_line", _dies, False),
    "in the middle of the line": (None, _dies_half_way, False),
    "after the line": ("_write_head", _dies, True),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("earlier", [0, 2])
def test_killed_at_any_stage_of_a_spend(
    folder: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch, stage: str, earlier: int
) -> None:
    ledger = Ledger(folder, key)
    for number in range(earlier):
        ledger.spend(release(number), {"p1": private(1.0)}, BUDGET)
    name, death, charged = STAGES[stage]
    if name == "_write_head":
        real = files.LedgerFiles._write_head

        def dies_later(self: files.LedgerFiles, mark: Mark) -> None:
            _dies() if mark.sequence > earlier else real(self, mark)

        death = dies_later

    def killed() -> None:
        if name is None:
            real_write = files._write_all
            pending = iter([earlier > 0])  # a new ledger writes its head before its first line

            def write(descriptor: int, data: bytes) -> None:
                death(descriptor, data) if next(pending, True) else real_write(descriptor, data)

            monkeypatch.setattr(files, "_write_all", write)
        else:
            monkeypatch.setattr(files.LedgerFiles, name, death)
        ledger.spend(release("killed"), {"p1": private(2.0)}, BUDGET)

    assert _in_a_child(killed) == 77
    state = ledger.verify()
    assert (state.release(release("killed")) is not None) == charged
    assert bool(state.notes) == (stage != "before the line")
    assert ledger.verify().notes == ()
    ledger.spend(release("killed"), {"p1": private(2.0)}, BUDGET)
    assert ledger.verify().totals()[ledger.pseudonym("p1")].epsilon == earlier + 2.0


def test_killed_between_the_new_head_and_its_name(
    folder: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(folder, key)
    ledger.spend(release(1), {"p1": PLAIN}, BUDGET)

    def killed() -> None:
        monkeypatch.setattr(Path, "replace", _dies)
        ledger.spend(release(2), {"p1": PLAIN}, BUDGET)

    assert _in_a_child(killed) == 77
    assert ledger.verify().totals()[ledger.pseudonym("p1")].releases == 2


def test_killed_between_spend_and_signature(ledger: Ledger) -> None:
    """The run that comes back finds its spend; its figures are those of the first time."""
    made = ledger.spend(release(1), {"p1": PLAIN}, Budget(releases=1))
    again = ledger.spend(release(1), {"p1": PLAIN}, Budget(releases=1))
    assert again == made
    ledger.settle(release(1), BUNDLE)
    assert ledger.verify().totals()[ledger.pseudonym("p1")].releases == 1


def test_zeros_that_a_power_cut_left_are_removed(ledger: Ledger, folder: Path) -> None:
    spend_three(ledger)
    with (folder / "ledger.jsonl").open("ab") as file:
        file.write(b'{"bundle":null' + bytes(300) + b"\n")
    assert len(ledger.verify().notes) == 1
    assert len(ledger.verify().releases) == 3


def test_a_whole_but_forged_line_beyond_the_head_is_no_crash(ledger: Ledger, folder: Path) -> None:
    spend_three(ledger)
    with (folder / "ledger.jsonl").open("ab") as file:
        file.write(b'{"signature":"00"}\n')
    with pytest.raises(LedgerError, match="line 4"):
        ledger.verify()


def test_a_full_disk_charges_no_one(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on file sizes stands for the disk, in a process of its own."""
    import resource
    import signal

    spend_three(ledger)
    before = (folder / "ledger.jsonl").read_bytes()

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = len(before) + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(StorageError, match="disk is full"):
            ledger.spend(release(9), {"p1": PLAIN}, BUDGET)

    assert _in_a_child(full) == 0
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert ledger.verify().notes == ()


def test_two_processes_at_once_cannot_overdraw(folder: Path, key: SiteKey) -> None:
    """Four processes ask for eight releases each; the patient's budget admits three."""
    children = []
    for worker in range(4):
        child = os.fork()
        if child == 0:
            granted = 0
            for number in range(8):
                try:
                    Ledger(folder, key).spend(release((worker, number)), {"p1": PLAIN}, BUDGET)
                    granted += 1
                except ReleaseRefusedError:
                    pass
                except BaseException:
                    os._exit(99)
            os._exit(granted)
        children.append(child)
    granted = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(granted) == 3
    state = Ledger(folder, key).verify()
    assert len(state.releases) == 3
    assert state.notes == ()
