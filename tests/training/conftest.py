"""Latent stores of random numbers, and runs of the tiny preset on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixcell_share.training.checkpoints import Checkpoints
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.latents import IndexRow, StoreInfo, StoreWriter
from pixcell_share.training.logs import read_log
from pixcell_share.training.loop import LoopSettings
from pixcell_share.training.settings import DataSettings, RunSettings
from pixcell_share.training.stages import preset
from tests.training.program import Finished, Running, start

DIM = 24


def make_store(
    folder: Path,
    *,
    region_px: int = 512,
    train: int = 12,
    holdout: int = 3,
    shard_rows: int = 5,
    seed: int = 0,
    vae: str = "nano",
    bad_row: int | None = None,
) -> Path:
    """A finished store of random latents, each row with a mean of its own."""
    grid, side = region_px // 256, region_px // 8
    info = StoreInfo(
        region_px=region_px,
        grid=grid,
        mpp=0.5,
        latent_channels=16,
        latent_side=side,
        embedding_dim=DIM,
        scaling_factor=0.9,
        shift_factor=0.05,
        vae={"role": "vae", "name": "nano", "licence": "Apache-2.0"},
        encoder={"role": "encoder", "name": "nano", "licence": "Apache-2.0"},
        vae_source=vae,
        encoder_source="nano",
        encoder_weights=None,
        shard_rows=shard_rows,
    )
    rng = np.random.default_rng(seed)
    with StoreWriter(folder, info) as writer:
        for split, count in (("train", train), ("holdout", holdout)):
            for number in range(count):
                latents = rng.normal(rng.normal(), 1, (16, side, side)).astype(np.float16)
                if split == "train" and number == bad_row:
                    latents[0, 0, 0] = np.nan
                embeddings = rng.normal(size=(grid**2, DIM)).astype(np.float16)
                row = IndexRow(f"slide-{number % 3}", x=str(number), y="0")
                writer.add(split, latents, embeddings, row)
        writer.finish()
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions of 512 px: 12 to train on in three shards, and 3 held out."""
    return make_store(tmp_path_factory.mktemp("latents") / "store")


@dataclass
class Train:
    """``pixcell-train run`` on `store`: the tiny preset, float32, no pictures."""

    folder: Path
    store: Path
    _runs: Any = field(default_factory=count)
    _started: list[Running] = field(default_factory=list)

    def words(self, out: Path, *more: object) -> list[str]:
        """The command's words; ``more`` options come last, and win."""
        words = [
            "run", "--stage", 256, "--latents", self.store, "--out", out, "--preset", "tiny",
            "--device", "cpu", "--dtype", "fp32", "--log-every", 1, "--sample-every", 0,
            "--save-every", 2, "--buffer", 6, "--json", *more,
        ]  # fmt: skip
        return [str(word) for word in words]

    def start(self, out: Path, *more: object, ranks: int = 1, **options: Any) -> Running:
        """Start it."""
        log = self.folder / f"output-{next(self._runs)}"
        running = start(log, *self.words(out, *more), ranks=ranks, **options)
        self._started.append(running)
        return running

    def __call__(self, out: Path, *more: object, ranks: int = 1) -> Finished:
        """Run it to its end."""
        return self.start(out, *more, ranks=ranks).wait()

    def end(self) -> None:
        """Leave nothing running behind a failed test."""
        for running in self._started:
            running.kill()


@pytest.fixture
def train(store: Path, tmp_path: Path) -> Iterator[Train]:
    """Runs `pixcell-train run`."""
    command = Train(tmp_path, store)
    yield command
    command.end()


MakeSettings = Callable[..., RunSettings]


@pytest.fixture
def settings(store: Path) -> MakeSettings:
    """Settings of a run inside the test's own process: the tiny preset on `store`."""

    def make(out: Path, **more: Any) -> RunSettings:
        data = DataSettings(more.pop("latents", ((store, 1),)), buffer=6, **more.pop("data", {}))
        loop = LoopSettings(save_every=2, log_every=1, quiet=True, **more.pop("loop", {}))
        stage = more.pop("stage", preset("tiny", 256))
        return RunSettings(stage, data, out, loop=loop, device="cpu", **more)

    return make


def logged(folder: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the clock."""
    names = ("step", "loss", "loss_by_noise", "grad_norm", "rate", "images", "left_out")
    return [{name: line[name] for name in names} for line in read_log(folder)]


def saved(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights, average, optimizers, sums of the log."""
    checkpoints = Checkpoints(folder / "checkpoints", Ranks(0, 1, torch.device("cpu")), keep=1)
    room = {name: torch.empty(size, dtype=kind) for name, (size, kind) in
            checkpoints.shapes(step).items()}  # fmt: skip
    checkpoints.read(step, room)
    return room


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Two runs have the same log, and the same bits after ``step``."""
    assert logged(one) == logged(other)
    first, second = saved(one, step), saved(other, step)
    assert first.keys() == second.keys()
    differing = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert not differing
