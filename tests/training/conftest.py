"""Latent stores of random numbers, and runs of the tiny preset on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixcell_share.training.latents import IndexRow, StoreInfo, StoreWriter
from pixcell_share.training.logs import read_log

ROOT = Path(__file__).resolve().parents[2]
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
class Ended:
    """A command that came to its end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object of ``--json``."""
        value: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return value


@dataclass
class TrainCommand:
    """``pixcell-train`` as a person runs it, in processes of its own."""

    store: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def words(self, out: Path, *more: object) -> list[str]:
        """A run of the tiny preset in float32 without pictures, into ``out``."""
        fixed = ["run", "--stage", 256, "--latents", self.store, "--out", out]
        fixed += ["--preset", "tiny", "--device", "cpu", "--dtype", "fp32", "--log-every", 1]
        fixed += ["--sample-every", 0, "--save-every", 2, "--json", *more]
        return [str(word) for word in fixed]

    def start(self, words: Sequence[str], *, ranks: int = 0) -> subprocess.Popen[str]:
        """Start it, with ``ranks`` under torchrun."""
        program = [sys.executable, "-m", "pixcell_share.training.cli", *words]
        if ranks:
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
            torchrun += [str(ranks), "--master-port", "0", "-m"]
            program = [*torchrun, "pixcell_share.training.cli", *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for it."""
        out, err = process.communicate(timeout=240)
        return Ended(process.returncode, out, err)

    def __call__(self, out: Path, *more: object, ranks: int = 0) -> Ended:
        """Run it to its end."""
        return self.end(self.start(self.words(out, *more), ranks=ranks))

    def stop_all(self) -> None:
        """End what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()


@pytest.fixture
def train(store: Path) -> Any:
    """``pixcell-train run`` with the tiny preset on `store`."""
    command = TrainCommand(store)
    yield command
    command.stop_all()


def losses(folder: Path) -> list[tuple[Any, ...]]:
    """All in the log that does not depend on the clock."""
    names = ("step", "loss", "loss_by_noise", "grad_norm", "rate", "images", "left_out")
    return [tuple(str(line[name]) for name in names) for line in read_log(folder)]
