"""Make batches ahead of the device: in a thread, or beside a GPU in several processes.

A thread draws some 3,000 samples of 256 px a second. A small model on a GPU learns from more, and
shares the thread's Python lock; processes do not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixcell_share.errors import PixcellError
from pixcell_share.prefetch import prefetch
from pixcell_share.training.batch import Batch
from pixcell_share.training.batches import BatchMaker, map_tensors, micro_batches
from pixcell_share.training.distributed import Ranks
from pixcell_share.training.division import Division

_AHEAD = 4
"""Micro-batches made ahead of the one that is computed, by a thread or by each process."""
_MOST_WORKERS = 8


def batches_ahead(
    maker: BatchMaker, division: Division, ranks: Ranks, steps: range, *, workers: int
) -> Iterator[Batch]:
    """The micro-batches of a rank in their order; the same ones whoever makes them.

    Close it when it is no longer needed.

    Args:
        maker: makes them.
        division: of a step.
        ranks: of the run; on a GPU the batches lie in page-locked memory.
        steps: from the one to go on with to the last.
        workers: processes that make them; 0 for a thread.

    Raises:
        DataError: a sample is not finite, and bad data is refused.
    """
    pin = ranks.device.type == "cuda"
    if workers:
        made = _by_processes(maker, division, ranks.rank, steps, workers)
        return prefetch(_received(made, pin=pin), _AHEAD)
    return prefetch(micro_batches(maker, division, ranks.rank, steps, pin=pin), _AHEAD)


def worker_count(ranks: Ranks) -> int:
    """Processes beside a GPU: half of the cores that are this rank's; none for a CPU."""
    if ranks.device.type != "cuda":
        return 0
    here = min(ranks.world, max(1, torch.cuda.device_count()))
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)) // (2 * here))


class _Made(Dataset[Batch | PixcellError]):
    """A micro-batch by its step and part."""

    def __init__(self, maker: BatchMaker, division: Division, rank: int) -> None:
        self._maker, self._division, self._rank = maker, division, rank

    def __getitem__(self, place: tuple[int, int]) -> Batch | PixcellError:
        try:
            return self._maker.make(self._division.positions(place[0], self._rank, place[1]))
        except PixcellError as error:  # torch would hand on the words alone
            return error


def _by_processes(
    maker: BatchMaker, division: Division, rank: int, steps: range, workers: int
) -> Iterator[Batch | PixcellError]:
    loader: DataLoader[Any] = DataLoader(
        _Made(maker, division, rank),
        batch_size=None,
        sampler=product(steps, range(division.accumulation)),
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=_obey_signals,
        multiprocessing_context="fork",  # the stores stay mapped; no worker touches the GPU
    )
    return iter(loader)  # begun here, and not in the thread that reads ahead


def _received(made: Iterator[Batch | PixcellError], *, pin: bool) -> Iterator[Batch]:
    for batch in made:
        if isinstance(batch, PixcellError):
            raise batch
        yield map_tensors(batch, Tensor.pin_memory) if pin else batch


def _as_it_is(made: Any) -> Any:
    return made


def _obey_signals(worker: int) -> None:
    """A worker has inherited `StopRequest`: it saves nothing, so SIGTERM may end it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
