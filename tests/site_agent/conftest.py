"""Slides, tiny models and a way to run `pixcell-site` as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixcell_share.slides import draw_demo_slides
from site_agent.home import SiteHome
from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn slides with their slides.csv."""
    folder = tmp_path_factory.mktemp("phantoms")
    draw_demo_slides(folder, count=2, seed=1)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> SiteHome:
    """A site whose encoder limit suits an untrained encoder, to which all tiles look alike."""
    home = SiteHome(tmp_path / "site")
    home.initialise("test-site")
    home.config_file.write_text('site = "test-site"\n[near_copies]\nembedding_limit = 1.0\n')
    return home


@dataclass
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return values


def run_command(*words: object, env: dict[str, str] | None = None) -> Finished:
    """Run `pixcell-site` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from site_agent.cli import main; main()", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def synthesize(tmp_path: Path, tiny_model: Path, site: SiteHome) -> Callable[..., Finished]:
    """`pixcell-site synthesize` with the tiny model, two steps and six tiles a slide."""

    def run(slides: Path, *more: object, out: Path | None = None) -> Finished:
        return run_command("synthesize", *arguments(slides, out or tmp_path / "run"), *more)

    def arguments(slides: Path, out: Path) -> list[object]:
        return [
            "--slides", slides, "--out", out, "--home", site.folder, "--model", tiny_model,
            "--encoder", "nano", "--weights", tiny_model / "encoder", "--steps", 2,
            "--max-tiles", 6, "--batch-size", 4, "--json",
        ]  # fmt: skip

    return run
