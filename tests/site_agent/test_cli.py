"""The commands and options that people and scripts rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from site_agent.cli import app
from site_agent.home import SiteHome
from tests.site_agent.program import run

COMMON = {"--help", "--debug"}
OPTIONS = {
    "init": {"--site", "--home", "--json"},
    "audit": {"--seed", "--synthetic", "--format", "--home"},
    "ledger": {"--home", "--json"},
    "frontier": {
        "--slides", "--tiles", "--table", "--patient-column", "--label-column", "--mpp", "--out",
        "--mix", "--dp-epsilon", "--guidance-scale", "--holdout", "--audit-encoder",
        "--audit-weights", "--model", "--vae", "--encoder", "--weights", "--tile-px", "--tile-mpp",
        "--max-tiles", "--steps", "--batch-size", "--device", "--dtype", "--home", "--json",
    },
    "doctor": {
        "--slides", "--tiles", "--table", "--patient-column", "--label-column",
        "--mpp", "--model", "--vae", "--encoder", "--weights",
        "--trust-remote-code", "--no-trust-remote-code", "--device", "--out", "--home", "--json",
    },
    "synthesize": {
        "--slides", "--tiles", "--out", "--table", "--patient-column", "--label-column",
        "--holdout", "--mix", "--dp-epsilon", "--dp-delta", "--audit-encoder", "--audit-weights",
        "--trained-on", "--mpp", "--model", "--vae", "--encoder", "--weights",
        "--trust-remote-code", "--no-trust-remote-code", "--tile-px", "--tile-mpp", "--coords",
        "--features", "--per-tile", "--max-tiles", "--steps", "--guidance-scale", "--batch-size",
        "--guidance-interval", "--block-cache", "--compile",
        "--device", "--dtype", "--array", "--dry-run", "--no-dry-run", "--home", "--json",
    },
    "bench": {
        "--slides", "--model", "--vae", "--encoder", "--weights", "--batch-size", "--device",
        "--dtype", "--json", "--steps", "--guidance-interval", "--block-cache", "--compile",
    },
    "region": {
        "--slide", "--x", "--y", "--size", "--out", "--beside", "--mpp", "--tile-mpp", "--model",
        "--vae", "--lora", "--encoder", "--weights", "--trust-remote-code",
        "--no-trust-remote-code", "--seed", "--steps", "--guidance-scale", "--stride",
        "--batch-size", "--device", "--dtype", "--json",
    },
    "demo-slides": {"--count", "--seed", "--json"},
    "demo-tiles": {"--seed", "--json"},
    "join": {"--fingerprint", "--code", "--no-wait", "--give-up-after", "--home", "--json"},
    "send": {"--no-wait", "--connections", "--give-up-after", "--home", "--json"},
    "rotate-key": {"--give-up-after", "--home", "--json"},
    "agent": {"--home"},
    "approve": {"--withdraw", "--home", "--json"},
    "status": {"--home", "--json"},
}  # fmt: skip


def test_commands_and_options_are_frozen() -> None:
    group = typer.main.get_command(app)
    assert set(group.commands) == set(OPTIONS)
    for name, command in group.commands.items():
        options = {
            word
            for parameter in command.params
            if parameter.param_type_name == "option"
            for word in [*parameter.opts, *parameter.secondary_opts]
        }
        assert options - COMMON == OPTIONS[name], name


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_command_explains_itself_with_an_example(name: str, tmp_path: Path) -> None:
    done = run(tmp_path / "log", name, "--help")
    assert done.code == 0
    assert f"pixcell-site {name}" in done.out


def test_a_wrong_option_is_bad_usage(tmp_path: Path) -> None:
    done = run(tmp_path / "log", "synthesize", "--slidez", tmp_path, "--json")
    assert done.code == 2
    assert done.json["error"]["code"] == "usage"


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    words = ("init", "--home", tmp_path / "site", "--site", "hospital-a", "--json")
    first = run(tmp_path / "log", *words)
    assert first.code == 0, first.err
    assert SiteHome(tmp_path / "site").load_key().key_id == first.json["key_id"]
    again = run(tmp_path / "log", *words)
    assert again.code == 1
    assert "exists already" in again.json["error"]["cause"]
    assert SiteHome(tmp_path / "site").load_key().key_id == first.json["key_id"]


@pytest.mark.parametrize(
    "text",
    ["site = ", 'sitee = "a"', 'site = "../x"', "[near_copies]\nlimit = 1", "near_copies = 3"],
)
def test_a_wrong_site_toml_is_bad_usage(text: str, tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "site")
    home.initialise()
    home.config_file.write_text(text)
    (tmp_path / "wsi").mkdir()
    words = ("--slides", tmp_path / "wsi", "--home", home.folder, "--json")
    done = run(tmp_path / "log", "synthesize", *words)
    assert done.code == 2, done.out


def test_demo_slides_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(tmp_path / "log", "demo-slides", tmp_path / name, "--count", 1).code == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.slow
def test_bench_measures_each_kind_of_work(tiny_model: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_model, "--encoder", "nano", "--weights", tiny_model / "encoder")
    done = run(tmp_path / "log", "bench", *words, "--batch-size", 2, "--json")
    assert done.code == 0, done.err
    rates, shares = done.json["tiles_per_second"], done.json["share_of_time"]
    assert set(rates) == set(shares) == {"read", "embed", "generate"}
    assert all(rate > 0 for rate in rates.values())
    assert sum(shares.values()) == pytest.approx(1)
