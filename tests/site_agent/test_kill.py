"""Killed at any moment, the same command goes on and gives the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from site_agent.home import SiteHome

_KILLS = 20


def _synthesize(words: list[str]) -> None:
    """What the console script does; the fork server has imported it beforehand."""
    import torch

    from site_agent import cli

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        sys.argv = ["pixcell-site", *words]
        cli.main()


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["site_agent.cli"])
    return context


@pytest.mark.slow
def test_kill_at_twenty_random_moments(
    server: multiprocessing.context.ForkServerContext,
    tmp_path: Path,
    tiny_model: Path,
    phantoms: Path,
    site: SiteHome,
) -> None:
    def start(out: Path) -> multiprocessing.process.BaseProcess:
        words = [
            "synthesize", "--slides", phantoms, "--out", out, "--home", site.folder,
            "--model", tiny_model, "--encoder", "nano", "--weights", tiny_model / "encoder",
            "--steps", "2", "--max-tiles", "12", "--batch-size", "4", "--json",
        ]  # fmt: skip
        process = server.Process(target=_synthesize, args=([str(word) for word in words],))
        process.start()
        return process

    def digest(out: Path) -> bytes:
        return (out / "bundle" / "manifest.dsse.json").read_bytes()

    began = time.monotonic()
    unbroken = start(tmp_path / "unbroken")
    unbroken.join()
    assert unbroken.exitcode == 0
    whole = time.monotonic() - began

    moments = random.Random(time.time_ns())
    kills = finished = 0
    while kills < _KILLS:
        out = tmp_path / f"broken-{finished}"
        process = start(out)
        process.join(moments.uniform(0.02, 0.6) * whole)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        assert digest(out) == digest(tmp_path / "unbroken")
        finished += 1
    last = start(out)
    last.join()
    assert last.exitcode == 0
    assert digest(out) == digest(tmp_path / "unbroken")
    assert not list(out.rglob("*.part")), "what a killed run left behind was not cleared"
