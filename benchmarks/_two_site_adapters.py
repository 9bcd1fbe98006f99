"""Adapters that two sites train together by DP-SGD, and the generators they lead to.

The steps of a federation's adapter round, in one process: each site charges its ledger and trains
on its own tiles from the common adapter, the adapters are averaged by patients (FedAvg), and so on.
What travels and who may ask for it is tested in ``tests/federation``.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pixcell_share.bundles.keys import SiteKey
from pixcell_share.pixcell.folders import find_generator
from pixcell_share.pixcell.load import load_scheduler
from pixcell_share.pixcell.lora import add_lora, fill_lora, merge_lora
from pixcell_share.pixcell.save import save_generator
from pixcell_share.privacy.ledger import Budget, Ledger
from pixcell_share.training.base import Base
from pixcell_share.training.latents import LatentStore, Source
from pixcell_share.training.private import (
    Adapter,
    Patients,
    PrivacySettings,
    TrainingSettings,
    Work,
    adapter_bytes,
    charge,
    identity,
    train_private_lora,
    weighted_mean,
)

_ENOUGH = Budget(epsilon=1e3, delta=0.5, releases=100)
"""The experiment repeats with several epsilons what a site would do once."""


@dataclass(frozen=True)
class AdapterSettings:
    """One federated training."""

    rounds: int = 4
    steps: int = 10
    """Of a site in a round."""
    patients_per_step: int = 12
    tiles_per_patient: int = 2
    delta: float = 1e-3
    """Below one over a site's groups, which stand for patients."""
    rate: float = 2e-3
    """Learning rate."""
    clip: float = 0.1
    turn: bool = True

    def privacy(self, epsilon: float) -> PrivacySettings:
        """What is promised at an epsilon; infinity is without noise and clipping."""
        return PrivacySettings(
            epsilon=epsilon,
            delta=self.delta,
            clip=self.clip,
            patients_per_step=self.patients_per_step,
            tiles_per_patient=self.tiles_per_patient,
            steps=self.rounds * self.steps,
            without_guarantee=math.isinf(epsilon),
        )


def make_store(tiles: Path, out: Path) -> Path:
    """The latents of a site's tiles by ``pixcell-train latents``; what exists is done."""
    table = out.parent / "regions.csv"
    rows = (tiles / "tiles.csv").read_text().replace("file,case_id,label", "file,case,label", 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(line.rpartition(",")[0] + "\n" for line in rows.splitlines()))
    words = (
        *("latents", "--regions", tiles, "--table", table, "--region-px", "256", "--resize"),
        *("--vae", "nano", "--encoder", "nano", "--holdout", "0", "--out", out),
    )
    program = "from pixcell_share.training.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True)
    return out


def federated_generator(
    stores: dict[str, Path], epsilon: float, settings: AdapterSettings, work: Path
) -> tuple[Path, list[dict]]:
    """A folder with nano and the common adapter merged into it, and each site's record."""
    folder, said = work / "generator", work / "records.json"
    if said.exists():
        return folder, json.loads(said.read_text())
    privacy = settings.privacy(epsilon)
    training = TrainingSettings(rate=settings.rate, turn=settings.turn)
    sites = {name: _Site(name, store, training, privacy, work) for name, store in stores.items()}
    common: Adapter | None = None
    for number in range(settings.rounds):
        steps = range(number * settings.steps, (number + 1) * settings.steps)
        adapters = [site.train(steps, common) for site in sites.values()]
        common = weighted_mean(adapters, [float(len(site.patients)) for site in sites.values()])
    base = Base.load("nano")
    add_lora(base.transformer, training.rank, training.alpha, seed=training.seed)
    fill_lora(base.transformer, _tensors(common))
    merge_lora(base.transformer)
    scheduler = load_scheduler(find_generator("nano").folder / "scheduler")
    save_generator(folder, base.transformer, scheduler, vae_source="nano", guidance_scale=1.25)
    records = [site.record | {"adapter_bytes": adapter_bytes(common)} for site in sites.values()]
    said.write_text(json.dumps(records, indent=2) + "\n")
    return folder, records


class _Site:
    """One site's part: its ledger, its store, its secret."""

    def __init__(
        self, name: str, store: Path, training: TrainingSettings, privacy: PrivacySettings,
        work: Path,
    ) -> None:  # fmt: skip
        self._work = work / name
        self._training, self._privacy = training, privacy
        self._sources = [Source(LatentStore.open(store, on_bad="refuse"), 1)]
        self.patients = Patients.of(self._sources)
        file = self._work / "site.key"
        key = SiteKey.load(file) if file.exists() else SiteKey.create(file)
        self._secret = key.derive("two-site experiment")
        base = Base.load("nano")
        about = identity(base.sha256, self._sources, training, privacy)
        ledger = Ledger(self._work / "ledger", key)
        self._grant = charge(ledger, _ENOUGH, self.patients, privacy, about)
        self.record: dict = {}

    def train(self, steps: range, common: Adapter | None) -> Adapter:
        work = Work(self._work / f"steps-{steps.start}", steps, common)
        result = train_private_lora(
            Base.load("nano"), self._sources, self._training, self._privacy, self._grant, work,
            secret=self._secret,
        )  # fmt: skip
        self.record = result.record.to_json()
        return result.adapter


def _tensors(adapter: Adapter) -> dict:
    import torch

    return {name: torch.from_numpy(value) for name, value in adapter.items()}
