"""A killed training goes on with the bits of an unbroken one; two ranks as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixcell_share.errors import SettingsError
from pixcell_share.ssl import SslJob, SslSettings, read_job, write_job
from pixcell_share.training.logs import read_log
from tests.ssl.conftest import MakeSettings, assert_same_run, source
from tests.ssl.ssl_program import Running


@pytest.fixture
def start(shards: Path, tmp_path: Path) -> Iterator[object]:
    """Starts jobs; whatever is left is ended after the test."""
    started: list[Running] = []

    def run(settings: SslSettings, out: Path, ranks: int = 1) -> Running:
        job = SslJob(settings, (source(shards),), out)
        started.append(Running(job, tmp_path / f"{len(started)}.json", ranks))
        return started[-1]

    yield run
    for running in started:
        running.kill()


def lines(folder: Path) -> int:
    return len(read_log(folder)) if (folder / "log.jsonl").exists() else 0


def checkpoint(folder: Path) -> str:
    marker = folder / "checkpoints" / "latest"
    return marker.read_text().strip() if marker.exists() else ""


def test_after_a_kill_the_bits_are_the_same(
    start: object, settings: MakeSettings, tmp_path: Path
) -> None:
    wanted = settings(schedule={"steps": 8})
    broken = start(wanted, tmp_path / "broken")  # type: ignore[operator]
    broken.until(lambda: checkpoint(tmp_path / "broken") != "" and lines(tmp_path / "broken") > 2)
    broken.kill()
    assert 2 <= int(checkpoint(tmp_path / "broken")[-2:]) < 8
    start(wanted, tmp_path / "broken").wait()  # type: ignore[operator]
    start(wanted, tmp_path / "whole").wait()  # type: ignore[operator]
    assert_same_run(tmp_path / "broken", tmp_path / "whole", 8)
    files = [(tmp_path / run / "encoder" / "model.safetensors") for run in ("broken", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_ranks_go_on_after_a_kill(
    start: object, settings: MakeSettings, tmp_path: Path, sharding: str
) -> None:
    wanted = settings(schedule={"steps": 6}, sharding=sharding)
    broken = start(wanted, tmp_path / "broken", 2)  # type: ignore[operator]
    broken.until(lambda: checkpoint(tmp_path / "broken") != "" and lines(tmp_path / "broken") > 2)
    broken.kill()
    start(wanted, tmp_path / "broken", 2).wait()  # type: ignore[operator]
    start(wanted, tmp_path / "whole", 2).wait()  # type: ignore[operator]
    assert_same_run(tmp_path / "broken", tmp_path / "whole", 6)


@pytest.mark.slow
def test_two_ranks_train_as_one_with_micro_batches(
    start: object, settings: MakeSettings, tmp_path: Path
) -> None:
    """The same micro-batches, so KoLeo and stochastic depth agree: only sums are ordered anew."""
    wanted = settings(micro_batch=2)
    start(wanted, tmp_path / "one").wait()  # type: ignore[operator]
    start(wanted, tmp_path / "two", 2).wait()  # type: ignore[operator]
    for one, two in zip(read_log(tmp_path / "one"), read_log(tmp_path / "two"), strict=True):
        for name in ("loss", "dino", "ibot", "koleo", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-3), (one["step"], name)


def test_a_job_file_gives_the_job_back(
    settings: MakeSettings, shards: Path, tmp_path: Path
) -> None:
    wanted = settings(ibot_head={"prototypes": 8}, loss={"targets": "sinkhorn_knopp"})
    job = SslJob(wanted, (source(shards, share=0.5, licences=("CC0-1.0",)),), tmp_path / "run", "n")
    write_job(tmp_path / "job.json", job)
    assert read_job(tmp_path / "job.json") == job


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "describes no training"),
        ('{"sources": []}', "out"),
        ('{"sources": [], "out": "x", "presets": "small"}', "presets"),
        ('{"sources": [], "out": "x", "preset": "large"}', "large"),
        ('{"sources": [], "out": "x", "settings": {"crops": {"size": 3}}}', "settings.crops"),
        ('{"sources": [], "out": "x", "settings": {"seed": "3"}}', "settings.seed is '3'"),
        ('{"sources": [], "out": "x", "settings": {"masks": {"ratio": [1]}}}', "masks.ratio"),
        ('{"sources": [{"folder": "x", "role": "fake"}], "out": "x"}', "sources.role"),
    ],
)
def test_a_wrong_job_file_is_refused(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_job(tmp_path / "job.json")
    assert named in refused.value.cause
