"""Tiles of drawn tissue, and settings that train on them in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixcell_share.ssl import SourceSettings, SslSettings
from pixcell_share.ssl.crops import CropSettings
from pixcell_share.ssl.heads import HeadSettings
from pixcell_share.ssl.job import updated
from pixcell_share.ssl.presets import small
from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.logs import read_log


def drawn_tiles(count: int, side: int = 64, seed: int = 0) -> tuple[NDArray[np.uint8], list[int]]:
    """Tiles of three kinds with the same colours: fine dots, coarse dots, stripes in any turn.

    The stain varies more from tile to tile than from kind to kind, so colour tells nothing.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    tiles, kinds = [], []
    for number in range(count):
        kind, angle = number % 3, rng.uniform(0, np.pi)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        phases = rng.uniform(0, 2 * np.pi, 2)
        waves = {0: (8, 8), 1: (3, 3), 2: (7, 0)}[kind]
        pattern = np.cos(2 * np.pi * waves[0] * u + phases[0])
        if waves[1]:
            pattern = pattern * np.cos(2 * np.pi * waves[1] * v + phases[1])
        ink = np.array([90, 150, 60]) * rng.uniform(0.6, 1.0, 3)
        tile = 235 - ink * (0.5 + 0.5 * pattern[:, :, None]) + rng.normal(0, 8, (side, side, 3))
        tiles.append(np.clip(tile, 0, 255).astype(np.uint8))
        kinds.append(kind)
    return np.stack(tiles), kinds


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 tiles in two HDF5 shards of different sizes."""
    folder = tmp_path_factory.mktemp("tiles") / "cohort"
    folder.mkdir()
    tiles, _ = drawn_tiles(120)
    for number, rows in enumerate((slice(0, 50), slice(50, 120))):
        with h5py.File(folder / f"shard-{number:05d}.h5", "w") as file:
            file["images"] = tiles[rows]
    return folder


MakeSettings = Callable[..., SslSettings]


@pytest.fixture
def settings() -> MakeSettings:
    """Settings of a very small training; nested dictionaries change them."""
    quick = replace(
        small(),
        global_batch=4,
        micro_batch=4,
        crops=CropSettings(global_px=32, local_px=16, locals=2, turn=True),
        dino_head=HeadSettings(prototypes=32, hidden=32, bottleneck=16),
        drop_path=0.3,
        save_every=2,
        log_every=1,
    )
    quick = updated(quick, {"schedule": {"steps": 4, "warmup_steps": 2, "frozen_steps": 1}})

    def make(**more: Any) -> SslSettings:
        return updated(quick, more)

    return make


def source(folder: Path, **more: Any) -> SourceSettings:
    """A source with a name."""
    return SourceSettings(folder, **{"name": "drawn", **more})


def logged(folder: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the clock."""
    names = ("step", "loss", "dino", "ibot", "koleo", "grad_norm", "rate")
    return [{name: line[name] for name in names} for line in read_log(folder)]


def saved(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: student, teacher, centres, optimizer, sums of the log."""
    checkpoints = Checkpoints(folder / "checkpoints", Ranks(0, 1, torch.device("cpu")), keep=1)
    shapes = checkpoints.shapes(step)
    room = {name: torch.empty(size, dtype=kind) for name, (size, kind) in shapes.items()}
    checkpoints.read(step, room)
    return room


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Two runs have the same log, and the same bits after ``step``."""
    assert logged(one) == logged(other)
    first, second = saved(one, step), saved(other, step)
    assert first.keys() == second.keys()
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]
