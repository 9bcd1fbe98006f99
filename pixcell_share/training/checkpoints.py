"""Checkpoints: written beside the training, in view only when whole.

``checkpoints/step-00000100/`` is a folder of ``torch.distributed.checkpoint``, written by all
ranks under a hidden name while training goes on, then renamed by rank 0, which writes the name
into ``checkpoints/latest``. All ranks must see the same folder. It holds tensors alone, so it can
be read by any number of ranks, split or not.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from pixcell_share.errors import StorageError
from pixcell_share.files import atomic_write_text, storage_errors
from pixcell_share.training.distributed import Ranks

MARKER = "latest"
# What torch says of each save and load by a single process, which is just what is meant.
warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; made when the first is saved.
        ranks: of the run; all of them call each method.
        keep: number of checkpoints kept.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, keep: int) -> None:
        self._folder = folder
        self._ranks = ranks
        self._keep = keep
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def clean_up(self) -> None:
        """Remove what a killed run left half written or half removed; before the first save."""
        if self._ranks.first:
            parts = [*self._folder.glob(".step-*"), *self._folder.glob(f".{MARKER}.*.part")]
            for left in parts:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._ranks.wait()

    def latest(self) -> int | None:
        """The step of the last whole checkpoint."""
        step = None
        if self._ranks.first and (marker := self._folder / MARKER).is_file():
            step = _step_of(marker.read_text().strip())
        found: int | None = self._ranks.share(step)
        return found

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Copy the tensors, and write them while the caller goes on; waits for the last save.

        Raises:
            StorageError: the last save failed.
        """
        self.wait()
        part = self._folder / f".{_name(step)}.part"
        with storage_errors(part):
            part.mkdir(parents=True, exist_ok=True)
        written = async_save(
            dict(tensors),
            storage_writer=FileSystemWriter(part),
            process_group=self._ranks.writers,
            no_dist=self._ranks.writers is None,
        )
        assert isinstance(written, Future)
        self._pending = self._finisher.submit(self._finish, written, part, step)

    def wait(self) -> None:
        """Return when the last save is whole.

        Raises:
            StorageError: it failed.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def read(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Fill ``tensors`` in place from the checkpoint of ``step``."""
        wanted = dict(tensors)
        load(
            wanted,
            storage_reader=FileSystemReader(self._folder / _name(step)),
            process_group=self._ranks.writers,
            no_dist=self._ranks.writers is None,
        )

    def shapes(self, step: int) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Size and dtype of every tensor of a checkpoint."""
        metadata = FileSystemReader(self._folder / _name(step)).read_metadata()
        return {
            key: (value.size, value.properties.dtype)
            for key, value in metadata.state_dict_metadata.items()
            if isinstance(value, TensorStorageMetadata)
        }

    def _finish(self, written: Future[Any], part: Path, step: int) -> None:
        try:
            written.result()
        except (Exception, CheckpointException) as error:
            raise StorageError(
                f"the checkpoint of step {step} could not be written: {_reason(error)}",
                "free some space or choose another folder, then run the same command again: it "
                "goes on from the checkpoint before",
            ) from error
        if self._ranks.first:
            self._bring_into_view(part, step)

    def _bring_into_view(self, part: Path, step: int) -> None:
        target = self._folder / _name(step)
        if target.exists():  # of a run that was killed between the two lines below
            _remove(target)
        part.rename(target)
        atomic_write_text(self._folder / MARKER, target.name + "\n")
        for old in sorted(self._folder.glob("step-*"))[: -self._keep]:
            if old != target:
                _remove(old)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step_of(name: str) -> int:
    return int(name.removeprefix("step-"))


def _remove(folder: Path) -> None:
    """Remove a folder so that, if the process is killed on the way, nobody takes it for whole."""
    doomed = folder.with_name(f".{folder.name}.old")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _reason(error: BaseException) -> str:
    """What the system said, in one line: torch wraps it with the tracebacks of all ranks."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return " ".join(str(error).split())[:300]
