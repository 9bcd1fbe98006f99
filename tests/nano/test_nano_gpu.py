"""The same stages on a GPU, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pixcell_share.nano.presets import tiny
from pixcell_share.nano.stages import TrainingRun

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


def test_every_stage_runs_on_a_gpu(small_data: Path, tmp_path: Path) -> None:
    run = TrainingRun(small_data, tmp_path, tiny(), torch.device("cuda"), show=False)
    for trainer in (run.train_vae(), run.train_encoder(), run.train_decoder()):
        assert trainer.step_count == 3
    assert all(value.isfinite().all() for value in run.state("decoder").values())
