"""Run `pixcell-site` in processes of its own, without importing torch anew for each.

A fork server imports the program once; each run is a fresh child of it that calls the entry point
of the console script. It can be killed like any process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["site_agent.cli", "site_agent.pipeline", "site_agent.doctor", "site_agent.printing"]
)


@dataclass
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return values


@dataclass
class Running:
    """A command that was started."""

    process: Any
    log: Path

    def wait(self, seconds: float | None = 300) -> Finished:
        """Let it end."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(self.log.with_suffix(".err").read_text())
        out, err = (self.log.with_suffix(end).read_text() for end in (".out", ".err"))
        return Finished(self.process.exitcode, out, err)


def start(log: Path, *words: object, file_limit: int | None = None) -> Running:
    """Start a command.

    Args:
        log: where its output goes, with the endings ``.out`` and ``.err``.
        words: the command's arguments.
        file_limit: bytes that one of its files may have: a disk that is full.
    """
    arguments = (log, [str(word) for word in words], file_limit)
    process = _CONTEXT.Process(target=_child, args=arguments)
    process.start()
    return Running(process, log)


def run(log: Path, *words: object, file_limit: int | None = None) -> Finished:
    """Run a command to its end."""
    return start(log, *words, file_limit=file_limit).wait()


def _child(log: Path, words: list[str], file_limit: int | None) -> None:
    import torch

    from site_agent import cli

    torch.set_num_threads(1)
    for stream, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.addaudithook(_no_network)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["pixcell-site", *words]
    cli.main()


def _no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Every run of these tests shows that the main job talks to nobody."""
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        os.write(2, f"network: {event} {arguments!r}\n".encode())
        os._exit(99)
