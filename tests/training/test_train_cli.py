"""`pixcell-train run` and `export`: options, words and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pixcell_share.errors import SettingsError
from pixcell_share.training import cli
from pixcell_share.training.options import RunOptions, parse_source
from tests.training.conftest import Train
from tests.training.program import start

_RUN = {
    "--stage", "--latents", "--out", "--preset", "--init", "--steps", "--global-batch",
    "--micro-batch", "--rate", "--sharding", "--dtype", "--compile", "--save-every",
    "--keep-checkpoints", "--sample-every", "--log-every", "--seed", "--device", "--on-bad-data",
    "--buffer", "--vae", "--json", "--debug", "--help",
}  # fmt: skip


def test_no_option_comes_or_goes_unnoticed() -> None:
    group: Any = get_command(cli.app)
    found = {word for option in group.commands["run"].params for word in option.opts}
    assert found | {"--help"} == _RUN
    exporting = {word for option in group.commands["export"].params for word in option.opts}
    assert exporting == {"--run", "--out", "--dtype", "--guidance", "--debug"}


def test_a_run_from_the_words_of_a_person(train: Train, store: Path, tmp_path: Path) -> None:
    """Two stores, one of them twice; a bar is no terminal's, so lines come."""
    twice = ("--latents", f"{store}:2", "--steps", 2, "--global-batch", 2)
    done = train(tmp_path / "run", *twice)
    assert done.code == 0, done.err
    assert done.json == {
        "step": 2,
        "steps": 2,
        "stopped": False,
        "loss": pytest.approx(1, abs=0.3),
        "model": str(tmp_path / "run" / "model"),
    }
    assert "step 2/2" in done.err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [each["repeat"] for each in run["fixed"]["data"]] == [1, 2]

    exported = start(
        tmp_path / "export", "export", "--run", tmp_path / "run", "--out", tmp_path / "model"
    ).wait()
    assert exported.code == 0 and str(tmp_path / "model") in exported.out
    assert (tmp_path / "model" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--stage", 300), "stage is 300"),
        (("--preset", "large"), "unknown preset large"),
        (("--sharding", "zero"), "--sharding is zero"),
        (("--dtype", "fp8"), "--dtype is fp8"),
        (("--micro-batch", 3), "micro-batch of 3"),
        (("--latents", "nowhere"), "there is no latent store in nowhere"),
        (("--rate", -1), "rate is -1"),
        (("--device", "tpu"), "tpu is not on this machine"),
    ],
)
def test_wrong_words_end_with_code_2(
    words: tuple[object, ...], cause: str, store: Path, tmp_path: Path, capsys: Any
) -> None:
    usual = ["run", "--stage", "256", "--latents", str(store), "--out", str(tmp_path / "run")]
    from pixcell_share import console

    arguments = [*usual, "--preset", "tiny", "--json", *map(str, words)]
    with pytest.raises(SystemExit) as ended:
        console.run(cli.app, arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert cause in said.err
    assert json.loads(said.out)["exit_code"] == 2
    assert not (tmp_path / "run" / "run.json").exists()


def test_sources_may_be_repeated() -> None:
    assert parse_source("a/b") == (Path("a/b"), 1)
    assert parse_source("a/b:3") == (Path("a/b"), 3)
    assert parse_source("odd:name") == (Path("odd:name"), 1)
    with pytest.raises(SettingsError, match="repeats 0 times"):
        parse_source("a:0")


def test_options_change_the_preset_and_keep_its_ratios(tmp_path: Path) -> None:
    options = RunOptions(
        stage=256, latents=("x",), out=tmp_path, preset="nano", rate=2e-3, steps=7, dtype="fp32"
    )
    resolved = options.resolve()
    assert (resolved.stage.rate, resolved.stage.matrix_rate) == (2e-3, 4e-3)
    assert resolved.stage.steps == 7 and not resolved.loop.bf16
    assert resolved.stage.global_batch == 16 and not resolved.exact_micro_batch


def test_half_an_environment_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    from pixcell_share.training.run import run_training

    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SettingsError, match="RANK is set"):
        run_training(settings(tmp_path / "run"), print)
