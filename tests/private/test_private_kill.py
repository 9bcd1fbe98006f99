"""``kill -9`` at three stages of a private training: charged once, the same bytes in the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.privacy.ledger import Ledger
from tests.training.program import Finished, Running, start

LORA, RECORD = "pytorch_lora_weights.safetensors", "record.dsse.json"


def begin(model: Path, store: Path, home: Path, out: Path) -> Running:
    words = [
        "adapt", "--model", model, "--latents", store, "--out", out, "--home", home, "--steps", 8,
        "--device", "cpu", "--dtype", "fp32", "--dp-epsilon", 0.5, "--dp-delta", 0.0001,
        "--patients-per-step", 1, "--tiles-per-patient", 3, "--save-every", 2,
    ]  # fmt: skip
    return start(out.with_suffix(".log"), *[str(word) for word in words])


def finish(*places: Path) -> Finished:
    done = begin(*places).wait()
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
def test_a_training_killed_at_three_stages(
    model: Path, patients_store: Path, tmp_path: Path
) -> None:
    homes = [tmp_path / name for name in ("one", "other")]
    SiteKey.create(homes[0] / "site.key")
    homes[1].mkdir()
    (homes[1] / "site.key").hardlink_to(homes[0] / "site.key")
    for folder in homes:
        (folder / "site.toml").write_text("[budget]\ndelta = 0.1\n")
    whole, run, home = tmp_path / "whole", tmp_path / "run", homes[1]
    finish(model, patients_store, homes[0], whole)
    stages: dict[str, Callable[[], bool]] = {
        "charged": (home / "ledger.jsonl").exists,
        "saved": (run / "checkpoints" / "latest").exists,
        "trained": (run / LORA).exists,
    }
    for stage, reached in stages.items():
        running = begin(model, patients_store, home, run)
        running.until(reached)
        os.kill(running.processes[0].pid, signal.SIGKILL)
        running.processes[0].join()
        (release,) = Ledger(home, SiteKey.load(home / "site.key")).verify().releases
        assert len(release.bundles) == (stage == "trained"), stage
    finish(model, patients_store, home, run)
    for name in (LORA, RECORD):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    (release,) = Ledger(home, SiteKey.load(home / "site.key")).verify().releases
    assert len(release.bundles) == 1
