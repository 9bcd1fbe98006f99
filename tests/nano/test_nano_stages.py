"""Every stage makes steps, stops, goes on from its checkpoint, and ends in a loadable folder."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pixcell_share.encoders import load_encoder
from pixcell_share.errors import SettingsError
from pixcell_share.nano import reporting
from pixcell_share.nano.evaluate import EvaluationSettings
from pixcell_share.nano.loop import Budget
from pixcell_share.nano.presets import tiny
from pixcell_share.nano.regions import write_regions
from pixcell_share.nano.stages import TrainingRun
from pixcell_share.nano.tiles import SplitSettings
from pixcell_share.pixcell import PixCell, SamplerSettings
from pixcell_share.training.cli import app
from tests.tiny import make_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    work = tmp_path_factory.mktemp("work")
    return TrainingRun(small_data, work, tiny(), CPU, show=False)


@pytest.fixture(scope="module")
def exported(run: TrainingRun) -> Path:
    run.train_vae()
    run.train_encoder()
    run.train_decoder()
    generator = make_tiny_model(run.work / "generator", dim=48)
    out = run.work / "weights"
    reporting.export_run(run, generator, out, guidance_scale=1.5)
    return out


def test_every_stage_stops_at_its_budget_and_is_finite(run: TrainingRun, exported: Path) -> None:
    for stage in ("vae", "encoder", "decoder"):
        assert run.steps(stage) == 3
        assert all(value.isfinite().all() for value in run.state(stage).values())


def test_a_finished_stage_is_left_alone(run: TrainingRun, exported: Path) -> None:
    before = (run.work / "run" / "vae.pt").read_bytes()
    assert run.train_vae().step_count == 3
    assert (run.work / "run" / "vae.pt").read_bytes() == before


def test_a_stage_goes_on_from_its_checkpoint(run: TrainingRun, exported: Path) -> None:
    before = {name: value.clone() for name, value in run.state("encoder").items()}
    longer = replace(run.settings.encoder, budget=Budget(steps=5))
    settings = replace(run.settings, encoder=longer)
    again = TrainingRun(run.data, run.work, settings, CPU, show=False)
    assert again.train_encoder().step_count == 5
    after = again.state("encoder")
    assert any(not torch.equal(after[name], before[name]) for name in after)


def test_the_decoder_stage_leaves_the_encoder_alone(run: TrainingRun, exported: Path) -> None:
    first, last = run.state("vae"), run.state("decoder")
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert changed == {"decoder"}


def test_the_export_loads_strictly_and_draws(run: TrainingRun, exported: Path) -> None:
    model = PixCell.from_pretrained(str(exported))
    encoder = load_encoder("nano", weights=str(exported / "encoder"))
    assert model.guidance_scale == 1.5
    assert (encoder.dim, model.embedding_dim, model.tile_px) == (48, 48, 256)
    tiles = np.asarray(run.tiles.lung[:2])
    drawn = list(model.generate(encoder.embed(tiles), [1, 2], SamplerSettings(steps=2)))
    assert [tile.shape for tile in drawn] == [(256, 256, 3)] * 2
    kept = (exported / "scheduler" / "scheduler_config.json").read_text()
    trained = run.work / "generator" / "scheduler" / "scheduler_config.json"
    assert json.loads(kept) == json.loads(trained.read_text())


def test_the_export_is_deterministic(run: TrainingRun, exported: Path, tmp_path: Path) -> None:
    generator = run.work / "generator"
    reporting.export_run(run, generator, tmp_path, guidance_scale=1.5)
    reporting.export_run(run, generator, tmp_path / "again", guidance_scale=1.5)
    for path in tmp_path.glob("*/*.*"):
        twin = tmp_path / "again" / path.relative_to(tmp_path)
        if twin.is_file():
            assert twin.read_bytes() == path.read_bytes(), path.name


def test_the_evaluation_writes_figures_and_pictures(run: TrainingRun, exported: Path) -> None:
    settings = EvaluationSettings(
        count=6, guidances=(1.0,), steps=1, encoder_directions=4, training_tiles=50
    )
    out = run.work / "figures"
    reporting.evaluate_weights(run, exported, out, settings, torch.float32)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["tiles"] == 6
    distances = figures["frechet"]
    assert distances["synthetic, guidance 1"]["descriptor"] > 0
    assert (out / "real_reconstructed_synthetic.png").stat().st_size > 1000
    assert (out / "synthetic.png").stat().st_size > 1000


def test_a_later_stage_names_the_earlier_one(small_data: Path, tmp_path: Path) -> None:
    empty = TrainingRun(small_data, tmp_path, tiny(), CPU, show=False)
    with pytest.raises(SettingsError, match="vae"):
        empty.train_decoder()


def test_regions_name_every_tile_and_keep_the_split(run: TrainingRun, tmp_path: Path) -> None:
    write_regions(run.tiles, tmp_path)
    with (tmp_path / "lung.csv").open(newline="") as stream:
        lung = list(csv.DictReader(stream))
    assert [row["file"] for row in lung] == list(run.tiles.names)
    assert {row["split"] for row in lung} == {"train", "holdout"}
    split = SplitSettings()
    assert all((row["split"] == "holdout") == split.held_out(row["case"]) for row in lung)
    with (tmp_path / "breast.csv").open(newline="") as stream:
        breast = list(csv.DictReader(stream))
    assert len(breast) == 3 * len(run.tiles.fields)


def test_the_command_without_data_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["nano", "stage", "vae", "--data", str(tmp_path), "--work", str(tmp_path / "work"),
         "--preset", "tiny"],
    )  # fmt: skip
    assert isinstance(result.exception, SettingsError)
    assert "--data" in result.exception.remedy


def test_the_command_trains_a_stage(small_data: Path, tmp_path: Path) -> None:
    words = ["nano", "stage", "vae", "--data", str(small_data), "--work", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--preset", "tiny"])
    assert result.exit_code == 0, result.output
    assert "vae: 3 steps" in result.output
