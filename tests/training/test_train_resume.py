"""Stopped at any moment, the same command goes on and gives the same bits."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pixcell_share.training.logs import read_log
from pixcell_share.training.run import run_training
from pixcell_share.training.stages import StageSettings, preset
from tests.training.conftest import MakeSettings, Train, assert_same_run, logged, saved

_STEPS = 9


def last_step(out: Path) -> int:
    """The last step in the log of a run under way."""
    log = out / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def is_writing(out: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((out / "checkpoints").glob(".step-*.part/*"))


def kept(out: Path) -> list[Path]:
    """The checkpoints that are whole."""
    return list((out / "checkpoints").glob("step-*"))


def kill_thrice(train: Train, out: Path, *more: object, ranks: int) -> None:
    """SIGKILL before the first checkpoint, in the middle of writing one, and between two."""
    moments = (
        lambda: last_step(out) >= 1 and not kept(out),
        lambda: is_writing(out),
        lambda: 5 <= last_step(out) < _STEPS and not is_writing(out),
    )
    for moment in moments:
        running = train.start(out, *more, ranks=ranks)
        running.until(moment)
        running.kill()


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_runs_have_the_bits_of_an_unbroken_one(
    train: Train, tmp_path: Path, ranks: int
) -> None:
    more = ("--steps", _STEPS)
    assert train(tmp_path / "unbroken", *more, ranks=ranks).code == 0
    kill_thrice(train, tmp_path / "killed", *more, ranks=ranks)
    assert train(tmp_path / "killed", *more, ranks=ranks).code == 0
    assert_same_run(tmp_path / "killed", tmp_path / "unbroken", _STEPS)
    assert not list((tmp_path / "killed").rglob(".*.part"))


MUON = replace(
    preset("nano", 256), heads=2, head_dim=16, layers=1, global_batch=4, micro_batch=2, steps=4
)
CAME = replace(
    preset("tiny", 256), optimizer="came", betas=(0.9, 0.999, 0.9999), weight_decay=0.0, warmup=3
)


@pytest.mark.parametrize("stage", [MUON, CAME], ids=["muon", "came"])
def test_other_optimizers_resume_too(
    settings: MakeSettings, tmp_path: Path, stage: StageSettings
) -> None:
    """Muon in bf16, with turns, noise on the condition and spread time steps; and CAME."""
    stage = replace(stage, schedule="constant", warmup=stage.warmup_steps)
    loop = {"bf16": stage.optimizer == "muon"}
    run_training(settings(tmp_path / "one", stage=stage, loop=loop), print)
    for steps in (2, 4):
        part = settings(tmp_path / "two", stage=replace(stage, steps=steps), loop=loop)
        run_training(part, print)
    assert_same_run(tmp_path / "one", tmp_path / "two", 4)


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGTERM), (2, signal.SIGUSR1)])
def test_a_signal_saves_and_ends_well(
    train: Train, tmp_path: Path, ranks: int, number: signal.Signals
) -> None:
    """One rank alone is asked; all stop after the same step, which no checkpoint was due at."""
    more, out = ("--steps", 7, "--save-every", 100), tmp_path / "stopped"
    running = train.start(out, *more, ranks=ranks)
    running.until(lambda: last_step(out) >= 2)
    os.kill(running.processes[-1].pid, number)
    stopped = running.wait()
    assert stopped.code == 0
    step = stopped.json["step"]
    assert stopped.json["stopped"] and 2 <= step < 7
    assert [path.name for path in (out / "checkpoints").glob("step-*")] == [f"step-{step:08d}"]
    assert not (out / "model").exists()

    done = train(out, *more, ranks=ranks)
    assert done.json["stopped"] is False and done.json["step"] == 7
    assert train(tmp_path / "unbroken", *more, ranks=ranks).code == 0
    assert_same_run(out, tmp_path / "unbroken", 7)


@pytest.mark.slow
def test_another_number_of_ranks_keeps_the_data(train: Train, tmp_path: Path) -> None:
    """Sums over micro-batches are taken in another order; the losses differ in the last digits.

    Tolerance: 1e-5 relative over 6 steps.
    """
    one, changed = tmp_path / "one", tmp_path / "changed"
    more = ("--steps", 6, "--save-every", 3)
    assert train(one, *more).code == 0
    assert train(changed, *more[2:], "--steps", 3, ranks=2).code == 0
    assert train(changed, *more).code == 0
    expected, found = logged(one), logged(changed)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    for left, right in zip(expected, found, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
        bins = zip(left["loss_by_noise"], right["loss_by_noise"], strict=True)
        assert all(
            found == (pytest.approx(loss, rel=1e-5) if loss else None) for loss, found in bins
        )
    average = {name: value for name, value in saved(one, 6).items() if name.startswith("average/")}
    for name, value in saved(changed, 6).items():
        if name in average:
            torch.testing.assert_close(value, average[name], rtol=1e-3, atol=1e-5)


def test_a_log_line_over_a_stop_has_all_its_steps(train: Train, tmp_path: Path) -> None:
    """Lines every 4 steps, a stop after 2: the sums since the last line are kept."""
    more = ("--log-every", 4, "--save-every", 2)
    assert train(tmp_path / "one", *more, "--steps", 8).code == 0
    assert train(tmp_path / "two", *more, "--steps", 6).code == 0
    lines = read_log(tmp_path / "two")
    assert [line["step"] for line in lines] == [4, 6]
    assert train(tmp_path / "two", *more, "--steps", 8).code == 0
    assert [line["step"] for line in read_log(tmp_path / "two")] == [4, 6, 8]


def test_a_finished_run_only_exports(train: Train, tmp_path: Path) -> None:
    first = train(tmp_path / "run")
    before = logged(tmp_path / "run")
    again: Any = train(tmp_path / "run").json
    assert again == first.json | {"loss": None}
    assert logged(tmp_path / "run") == before


def test_a_full_disk_is_named_and_loses_nothing(train: Train, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: below that of a checkpoint."""
    out, more = tmp_path / "run", ("--steps", 4)
    full = train.start(out, *more, file_limit=100_000).wait()
    assert full.code == 1
    assert "checkpoint of step 2 could not be written" in full.err
    assert not list((out / "checkpoints").glob("step-*"))
    assert train(out, *more).json["step"] == 4
    assert train(tmp_path / "unbroken", *more).code == 0
    assert_same_run(out, tmp_path / "unbroken", 4)
