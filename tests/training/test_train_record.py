"""``training.json``: a model says which stores it was trained on, and nobody's name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pixcell_share.errors import DataError
from pixcell_share.pixcell.folders import find_generator
from pixcell_share.training.adapt import AdaptSettings, adapt
from pixcell_share.training.export import export_run
from pixcell_share.training.latents import LatentStore
from pixcell_share.training.record import FILE, rows_digest, trained_here
from pixcell_share.training.run import run_training
from pixcell_share.training.stages import preset
from tests.tiny import make_tiny_model
from tests.training.conftest import MakeSettings, make_store


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, store: Path):
    """The model folder of one finished run."""
    from pixcell_share.training.loop import LoopSettings
    from pixcell_share.training.settings import DataSettings, RunSettings

    out = tmp_path_factory.mktemp("trained") / "run"
    stage = replace(preset("tiny", 256), steps=1)
    data = DataSettings(((store, 1),), buffer=6)
    run = RunSettings(stage, data, out, loop=LoopSettings(quiet=True), device="cpu")
    return run_training(run, print).model


def test_a_model_names_its_stores_by_digest(trained: Path, store: Path) -> None:
    record = trained_here(trained)
    assert record == trained_here(trained / "transformer")
    (noted,) = record.stores
    assert noted.rows_sha256 == rows_digest(store)
    assert (noted.regions, noted.holdout, noted.region_px) == (12, 3, 512)
    assert noted.patients == 3  # no table names a case, so these are slides
    text = (trained / FILE).read_text()
    assert "slide-" not in text and str(store) not in text


def test_an_export_keeps_the_record(trained: Path, tmp_path: Path) -> None:
    out = export_run(trained.parent, tmp_path / "out")
    assert trained_here(out) == trained_here(trained)


def test_the_digest_follows_the_rows(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "elsewhere")
    assert rows_digest(copy) == rows_digest(store)
    (copy / "train-00001.sha256").unlink()
    assert rows_digest(copy) == rows_digest(store)
    other = make_store(tmp_path / "other", seed=1)
    assert rows_digest(other) != rows_digest(store)


def test_the_stage_before_counts_also_when_it_is_gone(
    trained: Path, settings: MakeSettings, tmp_path: Path
) -> None:
    first = shutil.copytree(trained, tmp_path / "first")
    second = make_store(tmp_path / "second-store", seed=7)
    run = settings(
        tmp_path / "run",
        latents=((second, 1),),
        init=first,
        stage=replace(preset("tiny", 256), steps=2),
    )
    model = run_training(run, print).model
    expected = {*trained_here(trained).stores, *_stores_of(second)}
    assert set(trained_here(model).stores) == expected
    shutil.rmtree(first)
    more = replace(run, stage=replace(run.stage, steps=3))
    assert set(trained_here(run_training(more, print).model).stores) == expected


def _stores_of(folder: Path) -> set[object]:
    from pixcell_share.training.record import TrainedStore

    return {TrainedStore.of(LatentStore.open(folder))}


def test_a_lora_has_a_record_beside_it(store: Path, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "model")
    shutil.rmtree(base / "vae")
    report = adapt(
        AdaptSettings(model=str(base), latents=(str(store),), out=tmp_path / "lora", steps=1,
                      batch=2, dtype="fp32", device="cpu"),
        print,
    )  # fmt: skip
    assert set(trained_here(report.file.parent).stores) == _stores_of(store)


def test_nano_and_models_from_elsewhere_have_none(tmp_path: Path) -> None:
    assert trained_here(find_generator("nano").folder) is None
    assert trained_here("nano") is None
    assert trained_here("someone/a-model") is None
    assert trained_here(make_tiny_model(tmp_path / "model")) is None


def test_a_run_of_an_earlier_version_leaves_an_empty_record(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained.parent, tmp_path / "run")
    noted = json.loads((run / "run.json").read_text())
    del noted["about"]["trained_on"]
    (run / "run.json").write_text(json.dumps(noted))
    assert trained_here(export_run(run, tmp_path / "out")).stores == ()


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 9, "stores": []}', '{"schema": 1}'])
def test_a_damaged_record_is_no_absence(trained: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match="trained on"):
        trained_here(tmp_path)
