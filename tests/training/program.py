"""Run `pixcell-train` in processes of its own, without importing torch anew for each.

A fork server imports the program once; each rank is a fresh child of it that calls the entry
point of the console script. It can be killed like any process.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOAD = [
    "pixcell_share.training.cli",
    "pixcell_share.training.options",
    "pixcell_share.training.run",
    "torch.utils.tensorboard",
]
# One server serves all tests of this process, so another room's modules stay in the list.
_before = multiprocessing.forkserver._forkserver._preload_modules  # type: ignore[attr-defined]
_CONTEXT.set_forkserver_preload([*(name for name in _before if name != "__main__"), *_PRELOAD])


@dataclass
class Finished:
    """What a command came to."""

    codes: list[int]
    """Exit code of each rank."""
    out: str
    """Of rank 0."""
    err: str
    """Of all ranks."""

    @property
    def code(self) -> int:
        """The exit code, where all ranks have the same."""
        (code,) = set(self.codes)
        return code

    @property
    def json(self) -> dict[str, Any]:
        """The object of ``--json``."""
        values: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return values


@dataclass
class Running:
    """A command that was started: one process for each rank."""

    processes: list[Any]
    logs: list[Path]

    def wait(self, seconds: float = 240) -> Finished:
        """Let it end."""
        until = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
        if any(process.is_alive() for process in self.processes):
            self.kill()
            raise TimeoutError(self._text(".err"))
        codes = [process.exitcode for process in self.processes]
        return Finished(codes, self.logs[0].with_suffix(".out").read_text(), self._text(".err"))

    def until(self, happened: Callable[[], bool]) -> None:
        """Return as soon as something has happened; fail if the command ends before."""
        while not happened():
            time.sleep(0.0005)
            assert all(process.is_alive() for process in self.processes), self._text(".err")

    def kill(self) -> None:
        """SIGKILL to every rank."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def _text(self, end: str) -> str:
        return "".join(log.with_suffix(end).read_text() for log in self.logs)


def start(log: Path, *words: object, ranks: int = 1, file_limit: int | None = None) -> Running:
    """Start a command.

    Args:
        log: where its output goes, with the endings ``.out`` and ``.err``.
        words: the command's arguments.
        ranks: number of processes.
        file_limit: bytes that one of its files may have: a disk that is full.
    """
    text, port = [str(word) for word in words], free_port()
    logs = [log.with_name(f"{log.name}-{rank}") for rank in range(ranks)]
    processes = []
    for rank in range(ranks):
        group = _group(rank, ranks, port) if ranks > 1 else {}
        process = _CONTEXT.Process(target=_child, args=(logs[rank], text, group, file_limit))
        process.start()
        processes.append(process)
    return Running(processes, logs)


def _group(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What `torchrun` sets in the environment."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _child(log: Path, words: list[str], group: dict[str, str], file_limit: int | None) -> None:
    import torch

    from pixcell_share.training import cli

    torch.set_num_threads(1)
    for stream, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(group)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["pixcell-train", *words]
    cli.main()
