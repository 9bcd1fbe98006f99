"""The log of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pixcell_share.training.logs import LOG, RunLog, cut_back, read_log
from pixcell_share.training.meter import Meter, StepFigures, is_bad, loss_of, waited, wants_stop


def line(step: int) -> dict[str, Any]:
    return {
        "step": step, "loss": 1.5, "loss_by_noise": [0.5] * 9 + [None], "grad_norm": 0.1,
        "images": 4, "left_out": 0, "rate": 1e-3, "images_per_second": 10.0, "mfu": None,
        "waiting": 0.01, "memory_gib": 1.0,
    }  # fmt: skip


def test_lines_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / LOG
    whole = [json.dumps({"step": step}) + "\n" for step in (2, 4, 6, 8)]
    path.write_text("".join(whole) + '{"step": 10, "lo')
    cut_back(path, 6)
    assert path.read_text() == "".join(whole[:3])
    cut_back(path, 100)
    assert path.read_text() == "".join(whole[:3])


def test_the_log_goes_to_jsonl_and_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(tmp_path, step=0, steps=4, name="stage 256") as log:
        log.step(2, 1.5, 10.0)
        log.line(line(2))
    with RunLog(tmp_path, step=2, steps=4, name="stage 256") as log:
        log.line(line(4))
    assert [each["step"] for each in read_log(tmp_path)] == [2, 4]
    assert "step 4/4  loss 1.5000" in capsys.readouterr().err

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert [event.step for event in curves.Scalars("loss")] == [2, 4]
    names = curves.Tags()["scalars"]
    assert "loss by noise/800-899" in names and "loss by noise/900-999" not in names


def test_without_tensorboard_the_lines_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with RunLog(tmp_path, step=0, steps=4, name="stage 256") as log:
        log.line(line(1))
    assert read_log(tmp_path) == [line(1)]
    assert "TensorBoard is not installed" in capsys.readouterr().err
    assert not (tmp_path / "tensorboard").exists()


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(None, step=0, steps=4, name="stage 256") as log:
        log.line(line(1))
        log.say("nothing")
        log.keep()
    assert not list(tmp_path.iterdir()) and capsys.readouterr().err == ""


def step_of(*micro: tuple[float, list[float], list[int], list[float]], **note: Any) -> torch.Tensor:
    figures = StepFigures()
    for share, losses, times, weights in micro:
        figures.add(
            torch.tensor(share), torch.tensor(losses), torch.tensor(times), torch.tensor(weights)
        )
    return figures.note(**{"stop": False, "waited": 0.0, "world": 1, **note})


def test_losses_are_sorted_by_noise() -> None:
    meter = Meter()
    meter.add(step_of((2.0, [1.0, 3.0, 5.0], [0, 99, 100], [1, 1, 1])), norm=4.0)
    meter.add(step_of((4.0, [7.0, 9.0], [999, 950], [1, 0])), norm=2.0)
    figures = meter.figures()
    assert figures["loss"] == 3.0 and figures["grad_norm"] == 3.0
    assert figures["loss_by_noise"] == [2.0, 5.0, *[None] * 7, 7.0]
    assert (figures["images"], figures["left_out"]) == (4, 1)


def test_ranks_add_up_to_the_whole_batch() -> None:
    """Two ranks with half the samples each give the figures of one rank with all."""
    together = step_of((2.0, [1.0, 3.0], [10, 500], [1, 1]))
    halves = [
        step_of((1.0, [1.0], [10], [1]), world=2, waited=1.0),
        step_of((3.0, [3.0], [500], [1]), world=2, waited=3.0),
    ]
    total = halves[0] + halves[1]
    assert loss_of(total) == loss_of(together) and waited(total) == 2.0
    one, two = Meter(), Meter()
    one.add(together, 1.0)
    two.add(total, 1.0)
    assert one.figures() == two.figures()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_loss_of_one_rank_is_seen_by_all(value: float) -> None:
    good = step_of((1.0, [1.0], [10], [1]), world=2)
    assert not is_bad(good + good)
    assert is_bad(good + step_of((value, [1.0], [10], [1]), world=2))
    assert is_bad(good + step_of((1.0, [value], [10], [1]), world=2))
    # A row that was left out does not count.
    assert not is_bad(good + step_of((1.0, [1.0, value], [10, 10], [1, 0]), world=2))


def test_one_ranks_wish_to_stop_is_everyones() -> None:
    calm = step_of((1.0, [1.0], [10], [1]), world=2)
    assert not wants_stop(calm + calm)
    assert wants_stop(calm + step_of((1.0, [1.0], [10], [1]), world=2, stop=True))
