"""A tiny generator, stores whose regions name their patients, and a site with a ledger."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.privacy.ledger import Budget, Ledger
from pixcell_share.training.base import Base
from pixcell_share.training.latents import IndexRow, LatentStore, Source, StoreInfo, StoreWriter
from pixcell_share.training.private import (
    LoopSettings,
    Patients,
    PrivacySettings,
    PrivateResult,
    TrainingSettings,
    Work,
    charge,
    identity,
    train_private_lora,
)
from tests.tiny import DIM, make_tiny_model

TRAINING = TrainingSettings(rate=1e-3)
PRIVACY = PrivacySettings(
    epsilon=2.0, delta=1e-2, patients_per_step=4, tiles_per_patient=3, steps=6
)
LOOP = LoopSettings(device="cpu", save_every=2, log_every=1, quiet=True)
CASES = tuple(f"patient-{number % 9}" for number in range(36))


def make_patients_store(
    folder: Path, cases: Sequence[str] = CASES, *, bad_row: int | None = None, seed: int = 0
) -> Path:
    """Random latents of 256 px; row i belongs to ``cases[i]``."""
    info = StoreInfo(
        region_px=256, grid=1, mpp=0.5, latent_channels=16, latent_side=32, embedding_dim=DIM,
        scaling_factor=0.9, shift_factor=0.05, vae={"name": "nano"}, encoder={"name": "nano"},
        vae_source="nano", encoder_source="nano", encoder_weights=None, shard_rows=16,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    with StoreWriter(folder, info) as writer:
        for number, case in enumerate(cases):
            latents = rng.normal(size=(16, 32, 32)).astype(np.float16)
            if number == bad_row:
                latents[0, 0, 0] = np.nan
            embeddings = rng.normal(size=(1, DIM)).astype(np.float16)
            row = IndexRow(f"slide-{number}", case=case, x="0", y="0")
            writer.add("train", latents, embeddings, row)
        writer.finish()
    return folder


def sources_of(folder: Path) -> list[Source]:
    return [Source(LatentStore.open(folder), 1)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator without its VAE: any store's scale fits."""
    folder = make_tiny_model(tmp_path_factory.mktemp("private") / "model")
    shutil.rmtree(folder / "vae")
    return folder


@pytest.fixture(scope="session")
def patients_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine patients with four regions each."""
    return make_patients_store(tmp_path_factory.mktemp("private") / "store")


@dataclass
class Site:
    """A site's key and ledger, and a training on its store."""

    folder: Path
    model: Path
    store: Path
    key: SiteKey
    budget: Budget = Budget(epsilon=5.0, delta=0.1)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder, self.key)

    def train(
        self,
        out: Path,
        privacy: PrivacySettings = PRIVACY,
        training: TrainingSettings = TRAINING,
        **more: Any,
    ) -> PrivateResult:
        """Charge and train, as the command does."""
        base, sources = Base.load(str(self.model)), sources_of(self.store)
        about = identity(base.sha256, sources, training, privacy)
        grant = charge(self.ledger, self.budget, Patients.of(sources), privacy, about)
        more = {"loop": LOOP, "secret": self.key.derive("test"), **more}
        work = Work(out, range(privacy.steps))
        return train_private_lora(base, sources, training, privacy, grant, work, **more)


@pytest.fixture
def site(model: Path, patients_store: Path, tmp_path: Path) -> Site:
    folder = tmp_path / "home"
    key = SiteKey.create(folder / "site.key")
    return Site(folder, model, patients_store, key)


def without_noise(privacy: PrivacySettings) -> PrivacySettings:
    return replace(privacy, epsilon=np.inf, without_guarantee=True)
