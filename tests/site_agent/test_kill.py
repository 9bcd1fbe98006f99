"""Stopped at any moment, the same command goes on and gives the same bytes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.site_agent.conftest import MainJob

_KILLS = 20


def manifest(out: Path) -> bytes:
    return (out / "bundle" / "manifest.dsse.json").read_bytes()


@pytest.mark.slow
def test_kill_at_twenty_random_moments(synthesize: MainJob, phantoms: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert synthesize(phantoms, "--max-tiles", 12, out=tmp_path / "unbroken").code == 0
    whole = time.monotonic() - began

    seed = time.time_ns()
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    kills = finished = 0
    while True:
        out = tmp_path / f"broken-{finished}"
        running = synthesize.start(phantoms, "--max-tiles", 12, out=out)
        if kills < _KILLS:
            running.process.join(moments.uniform(0.02, 0.6) * whole)
        if kills < _KILLS and running.process.is_alive():
            running.process.kill()
            running.process.join()
            assert running.process.exitcode == -signal.SIGKILL
            kills += 1
            continue
        done = running.wait()
        assert done.code == 0, done.err
        assert manifest(out) == manifest(tmp_path / "unbroken")
        assert not [path for path in out.rglob(".*.part") if path.is_file()]
        finished += 1
        if kills == _KILLS:
            return


@pytest.mark.slow
def test_ctrl_c_loses_nothing(synthesize: MainJob, phantoms: Path, unbroken: dict) -> None:
    running = synthesize.start(phantoms)
    while not list(synthesize.out.glob("work/draws/*/*.npy")):
        time.sleep(0.01)
        assert running.process.is_alive()
    os.kill(running.process.pid, signal.SIGINT)
    stopped = running.wait()
    assert stopped.code == 130
    assert stopped.json["error"]["code"] == "interrupted"
    assert not (synthesize.out / "bundle").exists()
    assert synthesize(phantoms).json["digest"] == unbroken["digest"]
