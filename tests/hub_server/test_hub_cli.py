"""The commands and options of `pixcell-hub` that people and scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner, Result

from hub_server.cli import app
from hub_server.home import HubHome

COMMON = {"--help", "--debug"}
OPTIONS = {
    "verify": {"--trust", "--require", "--policy", "--json"},
    "init": {"--name", "--url", "--home", "--json"},
    "serve": {"--host", "--port", "--behind-proxy", "--federation", "--home"},
    "doctor": {"--home", "--json"},
    "invite": {"--contact", "--home", "--json"},
    "admit": {"--fingerprint", "--home", "--json"},
    "decline": {"--reason", "--home", "--json"},
    "revoke": {"--reason", "--key", "--home", "--json"},
    "sites": {"--home", "--json"},
    "intake": {"--home", "--json"},
    "cohorts": {"--count", "--home", "--json"},
    "cohort": {"--home", "--json"},
    "withdraw": {"--reason", "--home", "--json"},
    "train": {
        "--cohort", "--real", "--real-licence", "--real-noncommercial", "--name", "--preset",
        "--arch", "--steps", "--set", "--no-wait", "--home", "--json",
    },
    "evaluate": {
        "--encoder", "--dataset", "--task", "--base", "--images", "--weights", "--device",
        "--no-wait", "--home", "--json",
    },
    "compare": {"--encoder", "--weights", "--device", "--home", "--json"},
    "leaderboard": {"--task", "--metric", "--home", "--json"},
    "simulate": {
        "--sites", "--slides", "--model", "--tiles-per-class", "--steps", "--train-steps",
        "--adapter", "--local", "--out", "--json",
    },
    "ask": {"--set", "--expect", "--encoder", "--wait", "--no-wait", "--home", "--json"},
    "rounds": {"--home", "--json"},
    "app": {"--out", "--json"},
    "jobs": {"--run", "--cancel", "--home", "--json"},
    "accounts add": {"--role", "--oidc-subject", "--home", "--json"},
    "accounts password": {"--home", "--json"},
    "accounts role": {"--role", "--home", "--json"},
    "accounts disable": {"--home", "--json"},
    "accounts enable": {"--home", "--json"},
    "accounts list": {"--home", "--json"},
    "log show": {"--count", "--about", "--text", "--before", "--home", "--json"},
    "log verify": {"--folder", "--key", "--since", "--home", "--json"},
    "log prove": {"--act", "--since", "--out", "--home", "--json"},
    "log check": {"--key", "--json"},
}  # fmt: skip


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")
        else:
            yield before + name, command


def hub(home: HubHome, *words: object, typed: str | None = None) -> Result:
    arguments = [*map(str, words), "--home", str(home.folder)]
    return CliRunner().invoke(app, arguments, input=typed, catch_exceptions=False)


def test_commands_and_options_are_frozen() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    found = dict(commands(group))
    assert set(found) == set(OPTIONS)
    for name, command in found.items():
        options = {
            word
            for parameter in command.params
            if parameter.param_type_name == "option"
            for word in [*parameter.opts, *parameter.secondary_opts]
        }
        assert options - COMMON == OPTIONS[name], name


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"])
    assert done.exit_code == 0
    assert f"pixcell-hub {name}" in done.output


def test_a_member_from_invitation_to_revocation(hub_home: HubHome) -> None:
    invited = json.loads(hub(hub_home, "invite", "Hospital A", "--json").output)
    assert invited["code"] in invited["the_site_types"]
    shown = hub(hub_home, "sites").output
    assert "Hospital A" in shown and "invited" in shown
    assert invited["code"] not in shown + hub(hub_home, "log", "show").output
    revoked = hub(hub_home, "revoke", "Hospital A", "--reason", "invited by mistake")
    assert revoked.exit_code == 0
    assert "revoked" in hub(hub_home, "sites").output


def test_people_are_added_with_a_password_from_a_pipe(hub_home: HubHome) -> None:
    added = hub(hub_home, "accounts", "add", "anna", "--role", "operator", typed="a long secret\n")
    assert added.exit_code == 0
    hub(hub_home, "accounts", "disable", "anna")
    (row,) = json.loads(hub(hub_home, "accounts", "list", "--json").output)["accounts"]
    assert row == {
        "name": "anna", "role": "operator", "logs_in_by": "password", "status": "disabled",
    }  # fmt: skip
    assert "a long secret" not in (hub_home.log_folder / "acts.jsonl").read_text()


def test_the_log_is_shown_verified_and_proven(hub_home: HubHome, tmp_path: Path) -> None:
    hub(hub_home, "invite", "Hospital A")
    kept = tmp_path / "checkpoint"
    kept.write_bytes((hub_home.log_folder / "checkpoint").read_bytes())
    hub(hub_home, "invite", "Hospital B")
    assert "nothing of the first" in hub(hub_home, "log", "verify", "--since", kept).output
    for words in (("--act", 1), ("--since", kept)):
        proof = tmp_path / "proof.json"
        assert hub(hub_home, "log", "prove", *words, "--out", proof).exit_code == 0
        arguments = ["log", "check", str(proof), "--key", str(hub_home.public_key)]
        assert CliRunner().invoke(app, arguments).exit_code == 0


def test_a_doctor_who_finds_a_fault_says_so(hub_home: HubHome) -> None:
    assert hub(hub_home, "doctor").exit_code == 0
    hub_home.public_key.unlink()
    hub_home.private_key.unlink()
    found = hub(hub_home, "doctor", "--json")
    assert found.exit_code == 1
    assert "fail" in {check["status"] for check in json.loads(found.output)["checks"]}
