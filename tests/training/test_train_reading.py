"""Batches made ahead, by a thread or by processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pixcell_share.errors import DataError
from pixcell_share.training.batch import Batch
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.division import divide
from pixcell_share.training.reading import batches_ahead, worker_count
from tests.training.conftest import make_store
from tests.training.test_train_batches import make_maker

ONE = Ranks(0, 1, torch.device("cpu"))


def read(store: Path, workers: int, stage: int = 256) -> list[Batch]:
    drawn = {"turn": True, "spread_timesteps": True, "condition_noise": 0.1}
    division = divide(12, 1, 4, exact=True)
    maker = make_maker(store, stage=stage, **drawn)
    return list(batches_ahead(maker, division, ONE, range(1, 3), workers=workers))


def test_processes_make_the_batches_of_a_thread_in_their_order(store: Path) -> None:
    by_thread, by_processes = read(store, 0), read(store, 2)
    assert len(by_thread) == len(by_processes) == 6
    for one, other in zip(by_thread, by_processes, strict=True):
        for name, value in vars(one).items():
            assert torch.equal(value, getattr(other, name)), name


def test_bad_data_is_refused_in_a_process_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3 holds NaN"):
        read(make_store(tmp_path / "bad", bad_row=3), 2, stage=512)


def test_a_cpu_run_has_no_processes() -> None:
    assert worker_count(ONE) == 0
