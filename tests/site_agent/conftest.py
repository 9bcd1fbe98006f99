"""Slides, a tiny model, a site, and the main job on them."""

from __future__ import annotations

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


@pytest.fixture
def synthesize(tmp_path: Path, tiny_model: Path, site: SiteHome) -> Callable[..., Finished]:
    return MainJob(tmp_path, tiny_model, site)
