"""A hub with an accepted cohort, and trainings of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hub_server.home import HubHome
from hub_server.intake import intake_folder
from hub_server.jobs import Hub, TrainSettings
from hub_server.registry import Job, jobs
from pixcell_share.bundles import SiteKey
from tests.bundles.forging import make_tiles
from tests.bundles.hostile_corpus.good import write_good
from tests.hub_server.attacked_hub import FLOOR, add_member

SITE = "hospital-a"
QUICK: dict[str, Any] = {
    "global_batch": 4,
    "micro_batch": 4,
    "crops": {"global_px": 32, "local_px": 16, "locals": 2},
    "dino_head": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
    "schedule": {"steps": 4, "warmup_steps": 2, "frozen_steps": 1},
    "save_every": 2,
    "log_every": 1,
    "workers": 1,
}
"""`tiny` with 4 steps."""


def make_job_hub(folder: Path) -> HubHome:
    """A hub with the member `SITE`, whose cohort is accepted."""
    home = HubHome(folder / "hub")
    home.initialise("Hub of the jobs")
    with home.config_file.open("a") as file:
        file.write(FLOOR + "[jobs]\nlease_seconds = 3.0\n")
    key = SiteKey.create(folder / "site.key")
    registry = home.registry()
    with registry.session() as session:
        add_member(session, SITE, key)
    registry.close()
    write_good(folder / "bundle", key, site=SITE, tiles=list(make_tiles(12, seed=3)))
    outcome = intake_folder(home, folder / "bundle")
    assert outcome.accepted, outcome
    return home


def quick(*cohorts: str, **changes: Any) -> TrainSettings:
    """A training of `QUICK`, with other settings of the top level."""
    return TrainSettings(cohorts=cohorts or (SITE,), name="one", changes={**QUICK, **changes})


def make_folder(folder: Path, classes: int = 2, each: int = 6) -> Path:
    """Pictures in three parts, each class with a colour of its own."""
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for label in range(classes):
            (folder / part / f"class{label}").mkdir(parents=True)
            for number in range(each):
                tile = rng.integers(0, 90, (32, 32, 3)) + np.array([150 * label, 80, 20])
                picture = Image.fromarray(np.clip(tile, 0, 255).astype(np.uint8))
                picture.save(folder / part / f"class{label}" / f"{number}.png")
    return folder


@contextmanager
def opened(home: HubHome) -> Iterator[Hub]:
    """The hub, as the command line opens it."""
    with Hub.opened(home, "operator:cli") as hub:
        yield hub


def look(home: HubHome, job_id: str) -> Job:
    """The job as it is now."""
    with opened(home) as hub, hub.registry.reading() as session:
        return jobs.find_job(session, job_id)


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
