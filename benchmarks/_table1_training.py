"""Encoders of equal budget: what each learns from, its training, and one that learned nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pixcell_share.ssl import SourceSettings, SslJob, SslSettings, preset, write_job
from pixcell_share.ssl.architectures import architecture
from pixcell_share.ssl.distillation import build
from pixcell_share.ssl.export import write_weights

REAL_A, SYNTHETIC_A, BOTH = "real A", "synthetic A", "real A + synthetic B"
ARMS = (REAL_A, SYNTHETIC_A, BOTH)
UNTRAINED = "untrained"


@dataclass(frozen=True)
class TrainingSettings:
    """What the three encoders have in common; only their tiles differ."""

    preset: str = "small"
    """Of `pixcell_share.ssl`."""
    steps: int = 150
    batch: int = 24
    """Tiles of a step."""
    global_px: int = 48
    """Side of the global crops, and of what the trained encoder sees."""
    local_px: int = 24
    locals: int = 2
    threads: int = 1
    """Of torch, in each process."""
    launcher: tuple[str, ...] = (sys.executable, "-m")
    """Before ``pixcell_share.ssl``; with several GPUs ``torchrun --nproc-per-node 8 -m``."""

    def ssl(self, seed: int) -> SslSettings:
        """The settings of one training."""
        start = preset(self.preset)
        crops = replace(
            start.crops, global_px=self.global_px, local_px=self.local_px, locals=self.locals
        )
        return replace(
            start,
            seed=seed,
            global_batch=self.batch,
            micro_batch=min(start.micro_batch, self.batch),
            schedule=start.schedule.over(self.steps),
            crops=crops,
        )


def sources_of(real: Path, bundles: Mapping[str, Path]) -> dict[str, tuple[SourceSettings, ...]]:
    """The tiles of each arm.

    Args:
        real: folder of site A's real tiles.
        bundles: of the cohorts of A and B.
    """
    own = SourceSettings(real, "real A", "real")
    synthetic = {
        site: SourceSettings(folder, f"synthetic {site}", "synthetic")
        for site, folder in bundles.items()
    }
    return {REAL_A: (own,), SYNTHETIC_A: (synthetic["A"],), BOTH: (own, synthetic["B"])}


def train(
    arm: str, seed: int, sources: tuple[SourceSettings, ...], settings: TrainingSettings, work: Path
) -> Path:
    """The folder of the trained encoder; the same call goes on where it stopped.

    Raises:
        CalledProcessError: the training failed.
    """
    out = work / f"{_slug(arm)}-{seed}"
    if not (out / "encoder" / "card.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        job = SslJob(settings.ssl(seed), sources, out, f"{_slug(arm)}-{seed}")
        write_job(out / "job.json", job)
        command = [*settings.launcher, "pixcell_share.ssl", str(out / "job.json")]
        threads = {"OMP_NUM_THREADS": str(settings.threads)}
        subprocess.run(command, env=os.environ | threads, check=True)
    return out / "encoder"


def untrained(seed: int, settings: TrainingSettings, work: Path) -> Path:
    """The folder of an encoder as a training would begin with it."""
    folder = work / f"{UNTRAINED}-{seed}"
    if not (folder / "timm" / "config.json").exists():
        wanted = settings.ssl(seed)
        torch.manual_seed(seed)
        weights = build(wanted).teacher.backbone.state_dict()
        terms = {"name": folder.name, "licence": "Apache-2.0", "noncommercial": False}
        shape = architecture(wanted.architecture)
        write_weights(folder, weights, shape, wanted.crops.global_px, terms)
    return folder


def _slug(arm: str) -> str:
    return arm.replace(" + ", "-").replace(" ", "-").lower()
