"""The loop on one process: gradients, averages, samples, bad losses, the exported model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pixcell_share.errors import DataError, LossError, SettingsError, WorkFolderError
from pixcell_share.nano import WEIGHTS
from pixcell_share.pixcell import PixCell, SamplerSettings
from pixcell_share.training.average import Average
from pixcell_share.training.export import export_run
from pixcell_share.training.logs import read_log
from pixcell_share.training.run import prepare_attention, run_training
from pixcell_share.training.stages import preset
from pixcell_share.training.start import build_model
from tests.training.conftest import MakeSettings, assert_same_run, logged, make_store, saved

TINY = preset("tiny", 256)


def test_micro_batches_give_the_gradients_of_one_large_batch(
    settings: MakeSettings, tmp_path: Path
) -> None:
    """Weights after 3 steps of 8 images at once, and of 8, 4, 2 and 1 at a time.

    SGD-like exactness is not to be had from Adam, which divides by small numbers: so the gradient
    norms are compared (1e-5 relative in float32), and the losses of the steps that follow.
    """
    found = {}
    for micro in (8, 4, 1):
        stage = replace(TINY, global_batch=8, micro_batch=micro, steps=3)
        run_training(settings(tmp_path / str(micro), stage=stage), print)
        found[micro] = logged(tmp_path / str(micro))
    for micro in (4, 1):
        for left, right in zip(found[8], found[micro], strict=True):
            assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
            assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-4)


def test_the_shortcuts_of_attention_change_no_output() -> None:
    """Against diffusers' own attention, with one token; what is frozen has no gradient there."""
    torch.manual_seed(0)
    model = build_model(TINY, 24, 16, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    inputs = (torch.randn(2, 16, 32, 32), torch.randn(2, 1, 24), torch.tensor([3, 900]))
    expected = model(*inputs, return_dict=False)[0]
    expected.square().mean().backward()
    unused = {
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or weight.grad.abs().max() < 1e-7
    }
    prepare_attention(model, TINY, torch.device("cpu"))
    torch.testing.assert_close(model(*inputs, return_dict=False)[0], expected)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen and frozen <= unused
    assert {name.split(".")[3] for name in frozen} == {"to_q", "to_k"}


def test_the_average_is_the_formula() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = Average({"w": weight}, 0.9)
    expected = torch.zeros(3)
    for step in range(1, 200):
        with torch.no_grad():
            weight.copy_(torch.full((3,), float(step)))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(average.weights["w"], expected)


def test_pictures_show_and_do_not_disturb(settings: MakeSettings, tmp_path: Path) -> None:
    """The bits are the same with and without sampling; the first row is real."""
    run_training(settings(tmp_path / "without"), print)
    drawing = settings(tmp_path / "with", loop={"sample_every": 3}, samples=2)
    run_training(drawing, print)
    assert_same_run(tmp_path / "with", tmp_path / "without", 4)
    (picture,) = (tmp_path / "with" / "samples").iterdir()
    assert picture.name == "step-00000003.png"
    with Image.open(picture) as image:
        assert image.size == (2 * 260, 2 * 260)


def test_a_missing_vae_costs_only_the_pictures(settings: MakeSettings, tmp_path: Path) -> None:
    elsewhere = make_store(tmp_path / "elsewhere", vae=str(tmp_path / "gone"))
    said: list[str] = []
    options = {"latents": ((elsewhere, 1),), "loop": {"sample_every": 1}}
    report = run_training(settings(tmp_path / "run", **options), said.append)
    assert report.model is not None and not (report.model / "vae").exists()
    assert any("no sample pictures" in line for line in said)
    assert any("no VAE" in line for line in said)


def test_a_loss_that_is_not_finite_stops_before_it_is_applied(
    settings: MakeSettings, tmp_path: Path
) -> None:
    """A rate far too high: the first step is applied, and the second overflows."""
    stage = replace(TINY, rate=1e25, steps=9)
    out = tmp_path / "run"
    with pytest.raises(LossError, match=r"step \d: the (loss|gradient) is NaN.*slide slide-") as e:
        run_training(settings(out, stage=stage), print)
    assert e.value.exit_code == 1
    bad = json.loads((out / "bad-batch.json").read_text())
    step = bad["step"]
    assert [line["step"] for line in logged(out)] == list(range(1, step))
    assert bad["positions"] == list(range(4 * (step - 1), 4 * step))
    assert {sample["store"] for sample in bad["samples"]} and bad["samples"][0]["shard"]
    assert not list((out / "checkpoints").glob(f"step-{step:08d}"))
    assert not (out / "model").exists()


def test_bad_rows_are_refused_or_left_out(settings: MakeSettings, tmp_path: Path) -> None:
    store = make_store(tmp_path / "bad", region_px=256, bad_row=4)
    refused = settings(tmp_path / "refused", latents=((store, 1),))
    with pytest.raises(DataError, match="row 4 holds NaN"):
        run_training(refused, print)
    skipping = settings(tmp_path / "skipped", latents=((store, 1),), data={"on_bad": "skip"})
    run_training(skipping, print)
    lines = logged(tmp_path / "skipped")
    # 4 steps of 4 images are more than an epoch of 12 regions, of which one is bad.
    assert sum(line["left_out"] for line in lines) >= 1
    assert sum(line["left_out"] + line["images"] for line in lines) == 16


def test_other_settings_are_refused_by_name(settings: MakeSettings, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(settings(out, stage=replace(TINY, steps=1)), print)
    with pytest.raises(WorkFolderError, match=r"begun with stage.rate = 0.001, not 0.002"):
        run_training(settings(out, stage=replace(TINY, rate=0.002)), print)
    with pytest.raises(WorkFolderError, match=r"begun with seed = 0, not 5"):
        run_training(settings(out, data={"seed": 5}), print)
    other = make_store(tmp_path / "other", train=9)
    with pytest.raises(WorkFolderError, match=r"begun with data\[0\]"):
        run_training(settings(out, latents=((other, 1),)), print)
    # What may change: the number of steps, the micro-batch, how often something is written.
    more = replace(TINY, steps=2, micro_batch=4)
    report = run_training(settings(out, stage=more, loop={"keep_checkpoints": 1}), print)
    assert report.step == 2
    assert [path.name for path in (out / "checkpoints").glob("step-*")] == ["step-00000002"]


def test_a_global_batch_has_to_divide(settings: MakeSettings, tmp_path: Path) -> None:
    stage = replace(TINY, micro_batch=3)
    run_training(settings(tmp_path / "a", stage=stage), print)  # the preset's is only a limit
    with pytest.raises(SettingsError, match="micro-batch of 3") as caught:
        run_training(settings(tmp_path / "b", stage=stage, exact_micro_batch=True), print)
    assert "--micro-batch 2 or 4" in caught.value.remedy


def draw(model: Any, count: int = 1) -> np.ndarray:
    embeddings = np.random.default_rng(0).normal(size=(count, model.tokens, 24))
    tiles = model.generate(embeddings.astype(np.float32), range(count), SamplerSettings(steps=2))
    return np.stack(list(tiles))


def test_the_model_is_the_average_and_feeds_the_next_stage(
    settings: MakeSettings, tmp_path: Path
) -> None:
    report = run_training(settings(tmp_path / "first"), print)
    assert report.model == tmp_path / "first" / "model"
    model = PixCell.from_pretrained(str(report.model))
    state = saved(tmp_path / "first", 4)
    average = {k.removeprefix("average/"): v for k, v in state.items() if k.startswith("average/")}
    live = {k.removeprefix("model/"): v for k, v in state.items() if k.startswith("model/")}
    found = model.transformer.state_dict()
    assert found.keys() == live.keys()
    for name, value in found.items():
        assert torch.equal(value, average.get(name, live[name])), name
    assert not torch.equal(found["proj_out.weight"], live["proj_out.weight"])
    assert model.guidance_scale == 2.0 and draw(model).shape == (1, 256, 256, 3)
    card = (report.model / "README.md").read_text()
    assert "4 steps of 4 images" in card and "| store | 12 | 3 | 1 |" in card

    second = replace(preset("tiny", 512), steps=1)
    settings_of_second = settings(tmp_path / "second", stage=second, init=report.model)
    grown = run_training(settings_of_second, print).model
    assert grown is not None
    assert draw(PixCell.from_pretrained(str(grown))).shape == (1, 512, 512, 3)


def test_export_writes_the_same_model_in_half_the_bytes(
    settings: MakeSettings, tmp_path: Path
) -> None:
    report = run_training(settings(tmp_path / "run"), print)
    assert report.model is not None
    out = export_run(tmp_path / "run", tmp_path / "half", dtype=torch.float16, guidance_scale=1.5)
    half, full = PixCell.from_pretrained(str(out)), PixCell.from_pretrained(str(report.model))
    assert half.guidance_scale == 1.5
    difference = draw(half).astype(int) - draw(full).astype(int)
    assert abs(difference).max() <= 2
    sizes = [
        (folder / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
        for folder in (out, report.model)
    ]
    assert sizes[0] < 0.6 * sizes[1]
    assert (out / "vae" / "config.json").read_text() and (WEIGHTS / "vae").is_dir()


def test_export_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has no run\.json"):
        export_run(tmp_path, tmp_path / "out")


def test_the_log_has_all_figures(settings: MakeSettings, tmp_path: Path) -> None:
    run_training(settings(tmp_path / "run"), print)
    lines = read_log(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line["images_per_second"] > 0 and 0 <= line["waiting"] < 1
        assert line["mfu"] is None and line["memory_gib"] > 0 and line["rate"] == 1e-3
        assert len(line["loss_by_noise"]) == 10
        assert line["loss"] == pytest.approx(1, abs=0.3) and line["grad_norm"] > 0


def test_bf16_keeps_float32_weights(settings: MakeSettings, tmp_path: Path) -> None:
    run_training(settings(tmp_path / "run", loop={"bf16": True}), print)
    plain = run_training(settings(tmp_path / "plain"), print)
    assert plain.loss is not None
    state = saved(tmp_path / "run", 4)
    assert {v.dtype for k, v in state.items() if k.startswith(("model/", "average/"))} == {
        torch.float32
    }
    last = logged(tmp_path / "run")[-1]["loss"]
    assert last == pytest.approx(plain.loss, rel=0.02) and last != plain.loss
