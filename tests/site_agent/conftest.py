"""Slides, a tiny model, a site, and the main job on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pixcell_share.slides import draw_demo_slides
from site_agent.home import SiteHome
from tests.site_agent.program import Finished, Running, start
from tests.tiny import make_tiny_model

SITE_TOML = """
site = "test-site"
[near_copies]
embedding_limit = 1.0
[limits]
patients = 1
class_patients = 1
retrieval_excess = 1.0
linkage_residual = 1.0
[budget]
releases = 100
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn slides with their slides.csv: one patient is set aside."""
    folder = tmp_path_factory.mktemp("phantoms")
    draw_demo_slides(folder, count=3, seed=1, canvas=(1664, 2048))
    return folder


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    """A site whose limits suit two slides and an untrained encoder, to which all look alike."""
    home = SiteHome(tmp_path_factory.mktemp("founded") / "site")
    home.initialise("test-site")
    home.config_file.write_text(SITE_TOML)
    return home


@pytest.fixture
def site(tmp_path: Path, founded: SiteHome) -> SiteHome:
    """`founded`, before its first release. The key is the same, and so are its bundles."""
    shutil.copytree(founded.folder, tmp_path / "site")
    return SiteHome(tmp_path / "site")


@dataclass
class MainJob:
    """`pixcell-site synthesize` with the tiny model, two steps and six tiles a slide."""

    folder: Path
    model: Path
    site: SiteHome
    _runs: Any = field(default_factory=count)

    @property
    def out(self) -> Path:
        """The work folder where a call names none."""
        return self.folder / "run"

    def start(
        self, slides: Path, *more: object, out: Path | None = None, file_limit: int | None = None
    ) -> Running:
        """Start it; ``more`` options come last, and win."""
        words = [
            "synthesize", "--slides", slides, "--out", out or self.out,
            "--home", self.site.folder, "--model", self.model, "--encoder", "nano",
            "--weights", self.model / "encoder", "--steps", 2, "--max-tiles", 6,
            "--batch-size", 4, "--json", *more,
        ]  # fmt: skip
        return start(self.folder / f"log-{next(self._runs)}", *words, file_limit=file_limit)

    def __call__(self, slides: Path, *more: object, **options: Any) -> Finished:
        """Run it to its end."""
        return self.start(slides, *more, **options).wait()


@pytest.fixture(scope="session")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, founded: SiteHome, phantoms: Path
) -> dict[str, Any]:
    """What a job on `phantoms` comes to that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    shutil.copytree(founded.folder, folder / "site")
    done = MainJob(folder, tiny_model, SiteHome(folder / "site"))(phantoms)
    assert done.code == 0, done.err
    return done.json


@pytest.fixture
def synthesize(tmp_path: Path, tiny_model: Path, site: SiteHome) -> Callable[..., Finished]:
    return MainJob(tmp_path, tiny_model, site)
