"""Commands that measure nothing do not wait for torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import json, sys
from typer.testing import CliRunner
from site_agent.cli import app

home = ["--home", sys.argv[1]]
nobody = ["https://localhost:1", "--fingerprint", "00", "--give-up-after", "0"]
calls = [["join", "--help"], ["init", *home], ["ledger", *home], ["join", *nobody, *home],
         ["send", sys.argv[1], *home], ["rotate-key", *home]]
codes = [CliRunner().invoke(app, call).exit_code for call in calls]
print(json.dumps({"codes": codes, "modules": sorted(sys.modules)}))
"""
_HEAVY = {"torch", "scipy", "diffusers", "transformers", "timm", "skimage", "h5py"}


def test_commands_that_talk_to_a_hub_start_without_torch(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _PROGRAM, str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["codes"][:3] == [0, 0, 0], "help, init and ledger do what they should"
    ran = {"site_agent.joining", "site_agent.sending", "site_agent.rotating"}
    assert ran <= set(found["modules"])
    assert not _HEAVY & set(found["modules"])
