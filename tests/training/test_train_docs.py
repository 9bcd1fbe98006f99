"""The commands of docs/training.md, run as written on the real slides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BIN = Path(sys.executable).parent
DONE_BUT_SOME_LEFT_OUT = 3  # the fluorescence slide


def laptop_commands() -> list[str]:
    """The lines of the first block after the heading."""
    section = DOCS.read_text().partition("## Try it on a laptop")[2]
    return section.split("```")[1].strip().splitlines()


@pytest.mark.slow
def test_from_slides_to_a_picture_by_the_commands_as_written(
    shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "wsi").symlink_to(shared_data / "slides")
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PIXCELL_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
    }
    commands = laptop_commands()
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        some = "--slides" in command
        assert done.returncode == (DONE_BUT_SOME_LEFT_OUT if some else 0), done.stdout + done.stderr
    model = json.loads((tmp_path / "stage-1024/model/transformer/config.json").read_text())
    assert (model["caption_num_tokens"], model["sample_size"]) == (16, 128)
    assert json.loads((tmp_path / "look.json").read_text())["size"] == 1024
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.size == (1024, 1024)
    refused = subprocess.run(
        [
            "pixcell-site", "synthesize", "--slides", "wsi", "--model", "stage-1024/model",
            "--encoder", "nano", "--tile-px", "1024", "--out", "synthetic",
        ],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "--trained-on" in refused.stderr, "weights trained here were taken for public ones"
