"""Run ``python -m pixcell_share.ssl`` in processes of its own, without importing torch anew.

As `tests.training.program`: a fork server imports the program once; each rank is a fresh child
that can be killed like any process.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixcell_share.ssl import SslJob, write_job
from tests.training.program import free_port

_CONTEXT = multiprocessing.get_context("forkserver")
# One server serves all tests of this process, so another room's modules stay in the list.
_before = multiprocessing.forkserver._forkserver._preload_modules  # type: ignore[attr-defined]
_mine = ["pixcell_share.ssl", "torch.utils.tensorboard"]
_CONTEXT.set_forkserver_preload([*(name for name in _before if name != "__main__"), *_mine])


class Running:
    """A job that was started: one process for each rank."""

    def __init__(self, job: SslJob, file: Path, ranks: int = 1) -> None:
        write_job(file, job)
        self.error = file.with_suffix(".err")
        port = free_port()
        self.processes: list[Any] = []
        for rank in range(ranks):
            group = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
            arguments = (file, self.error, group if ranks > 1 else {})
            self.processes.append(_CONTEXT.Process(target=_child, args=arguments))
            self.processes[-1].start()

    def wait(self, seconds: float = 240) -> None:
        """Let it end well."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        assert codes == [0] * len(codes), self.error.read_text()

    def until(self, happened: Callable[[], bool]) -> None:
        """Return as soon as something has happened; fail if the job ends before."""
        while not happened():
            time.sleep(0.0005)
            assert all(process.is_alive() for process in self.processes), self.error.read_text()

    def kill(self) -> None:
        """SIGKILL to every rank."""
        for process in self.processes:
            process.kill()
            process.join()


def _child(job: Path, error: Path, group: dict[str, str]) -> None:
    import torch

    from pixcell_share.ssl.__main__ import main

    torch.set_num_threads(1)
    os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(group)
    sys.exit(main([str(job)]))
