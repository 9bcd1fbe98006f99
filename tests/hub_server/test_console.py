"""The plumbing that all commands share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from pixcell_share import __version__, console
from pixcell_share.errors import ReleaseRefusedError, SettingsError

JsonFlag = Annotated[bool, typer.Option("--json")]


@pytest.fixture
def app() -> typer.Typer:
    made = console.application("Purpose.", "Example: tool work --json")

    @made.command()
    def work(fault: str = "none", as_json: JsonFlag = False) -> None:
        """Do work."""
        if fault == "settings":
            raise SettingsError("the table is wrong", "correct it")
        if fault == "refused":
            raise ReleaseRefusedError("near copies", "look at the report")
        if fault == "bug":
            raise ZeroDivisionError("a bug")
        if fault == "extra":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        if fault == "interrupt":
            raise KeyboardInterrupt
        if fault == "partly":
            raise typer.Exit(3)
        if as_json:
            console.print_json({"b": 1, "a": "µ"})

    @made.command()
    def other() -> None:
        """Do other work."""

    return made


def run(app: typer.Typer, *words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        console.run(app, words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("fault", "code", "name"),
    [
        ("settings", 2, "settings"),
        ("refused", 4, "refused"),
        ("bug", 1, "unexpected"),
        ("extra", 1, "not_installed"),
        ("interrupt", 130, "interrupted"),
    ],
)
def test_each_end_has_its_code_and_its_object(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], fault: str, code: int, name: str
) -> None:
    assert run(app, "work", "--fault", fault) == code
    plain = capsys.readouterr()
    assert plain.out == ""
    assert plain.err.startswith("error: ")
    assert "Traceback" not in plain.err
    assert run(app, "work", "--fault", fault, "--json") == code
    found = json.loads(capsys.readouterr().out)
    assert found["error"]["code"] == name
    assert found["exit_code"] == code


def test_done_and_partly_done(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "work", "--json") == 0
    assert capsys.readouterr().out == '{"a":"µ","b":1}\n'
    assert run(app, "work", "--fault", "partly") == 3
    assert run(app, "other") == 0


def test_cause_and_remedy_are_printed_whole(
    app: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    run(app, "work", "--fault", "settings")
    assert capsys.readouterr().err == "error: the table is wrong\n  -> correct it\n"


def test_debug_shows_where(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "work", "--fault", "bug", "--debug") == 1
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
    assert run(app, "other", "--debug") == 0


def test_version_and_help(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "--version") == 0
    assert __version__ in capsys.readouterr().out
    assert run(app, "--help") == 0
    assert "Example: tool work --json" in capsys.readouterr().out
    assert run(app, "nonsense") == 2


SLOW = """
import time
from pixcell_share import console
app = console.application("Purpose.")
@app.command()
def wait() -> None:
    print("ready", flush=True)
    time.sleep(60)
@app.command()
def other() -> None: ...
console.run(app)
"""


def test_ctrl_c_ends_with_130_and_one_line() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert err.strip() == "error: stopped by Ctrl-C"
