"""Commands that train and evaluate nothing do not wait for torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import json, sys
from typer.testing import CliRunner
from hub_server.cli import app

home = ["--home", sys.argv[1]]
bare = ["init", "doctor", "sites", "cohorts", "jobs", "leaderboard", "log show", "log verify",
        "accounts list"]
calls = [[*bare[0].split(), *home], ["invite", "Hospital A", *home]]
calls += [[*words.split(), *home] for words in bare[1:]]
calls += [["admit", "Hospital A", "--fingerprint", "00", *home], ["cohort", "00000000", *home],
          ["jobs", "00000000", *home], ["revoke", "Hospital A", "--reason", "a try", *home]]
codes = {" ".join(call[:2]): CliRunner().invoke(app, call).exit_code for call in calls}
print(json.dumps({"codes": codes, "modules": sorted(sys.modules)}))
"""
_HEAVY = {"torch", "scipy", "diffusers", "transformers", "timm", "skimage", "h5py"}
_NOT_THERE = {"admit Hospital A", "cohort 00000000", "jobs 00000000"}


def test_an_operators_commands_start_without_torch(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _PROGRAM, str(tmp_path / "hub")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {name for name, code in found["codes"].items() if code} == _NOT_THERE, found["codes"]
    assert not _HEAVY & set(found["modules"])
