"""Started by torchrun, as a person would; DDP and FSDP2 on two gloo ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.conftest import Train, assert_same_run, logged, saved
from tests.training.program import free_port

_BIN = Path(sys.executable).parent
_FORMS = {
    "module": ["-m", "pixcell_share.training.cli"],
    "program": ["--no-python", str(_BIN / "pixcell-train")],
}


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[object]:
    """Starts two workers; whatever is left is ended after the test."""
    started = []

    def start(form: str, words: list[str]) -> subprocess.Popen[str]:
        port = str(free_port())
        command = [str(_BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", port]
        process = subprocess.Popen(
            [*command, *_FORMS[form], *words],
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "torchrun.err").open("w"),
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of a torchrun's workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in children.split()]


@pytest.mark.slow
def test_torchrun_equals_two_ranks_of_the_environment(
    train: Train, torchrun: object, tmp_path: Path
) -> None:
    """It goes on where the other stopped."""
    assert train(tmp_path / "run", "--steps", 2, ranks=2).code == 0
    running = torchrun("program", train.words(tmp_path / "run", "--steps", 4))  # type: ignore[operator]
    out, _ = running.communicate(timeout=900)
    assert running.returncode == 0, (tmp_path / "torchrun.err").read_text()
    assert out.count('"step":4') == 1  # rank 0 alone speaks
    assert train(tmp_path / "other", "--steps", 4, ranks=2).code == 0
    assert_same_run(tmp_path / "run", tmp_path / "other", 4)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_well(
    train: Train, torchrun: object, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    running = torchrun("module", train.words(out, "--steps", 500, "--save-every", 1000))  # type: ignore[operator]
    until_step(out, 2, running)
    os.kill(workers(running)[0], signal.SIGTERM)
    text, _ = running.communicate(timeout=900)
    assert running.returncode == 0, (tmp_path / "torchrun.err").read_text()
    assert '"stopped":true' in text
    (kept,) = (out / "checkpoints").glob("step-*")
    assert int(kept.name.removeprefix("step-")) == logged(out)[-1]["step"]


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_though_it_ends_with_an_error(
    train: Train, torchrun: object, tmp_path: Path
) -> None:
    """What docs/slurm.md says of torchrun: the workers are told and save; its own code is 1."""
    out = tmp_path / "run"
    running = torchrun("module", train.words(out, "--steps", 500, "--save-every", 1000))  # type: ignore[operator]
    until_step(out, 2, running)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=900)
    assert running.returncode == 1
    assert "SignalException" in (tmp_path / "torchrun.err").read_text()
    (kept,) = (out / "checkpoints").glob("step-*")
    assert int(kept.name.removeprefix("step-")) == logged(out)[-1]["step"]


def until_step(out: Path, step: int, running: subprocess.Popen[str]) -> None:
    """Wait until a step is in the log."""
    log = out / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= step):
        assert running.poll() is None
        time.sleep(0.02)


def test_ddp_has_the_gradients_of_one_process(train: Train, tmp_path: Path) -> None:
    assert train(tmp_path / "one", "--micro-batch", 2).code == 0
    assert train(tmp_path / "two", "--micro-batch", 1, ranks=2).code == 0
    for left, right in zip(logged(tmp_path / "one"), logged(tmp_path / "two"), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-4)
        assert right["images"] == left["images"]


def test_fsdp2_trains_the_same_and_resumes_on_one_process(train: Train, tmp_path: Path) -> None:
    """Split weights, average and optimizer; its checkpoint is read by one process without FSDP."""
    assert train(tmp_path / "ddp", "--steps", 3, ranks=2).code == 0
    split = tmp_path / "fsdp2"
    assert train(split, "--steps", 2, "--sharding", "fsdp2", ranks=2).code == 0
    assert train(split, "--steps", 3, "--sharding", "fsdp2", ranks=2).code == 0
    for left, right in zip(logged(tmp_path / "ddp"), logged(split), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-4)
    one, other = saved(tmp_path / "ddp", 3), saved(split, 3)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)
    assert train(split, "--steps", 4, "--sharding", "fsdp2").json["step"] == 4
    assert train(split, "--steps", 5).json["step"] == 5


def test_came_cannot_be_split(train: Train, tmp_path: Path) -> None:
    refused = train(tmp_path / "run", "--preset", "came", "--sharding", "fsdp2")
    assert refused.code == 2 and "CAME cannot be split" in refused.err


def test_a_bad_loss_stops_every_rank(train: Train, tmp_path: Path) -> None:
    ended = train(tmp_path / "run", "--rate", 1e25, "--steps", 9, ranks=2)
    assert ended.codes == [1, 1]
    assert "is NaN or infinite" in ended.err
    assert (tmp_path / "run" / "bad-batch.json").exists()
