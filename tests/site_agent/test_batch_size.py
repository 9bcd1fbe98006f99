"""The batch size is settled once for a run, since other batches would round differently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pixcell_share.errors import WorkFolderError
from pixcell_share.pixcell import SamplerSettings
from site_agent.run_folder import RunFolder
from site_agent.settings import Part, SynthesisSettings


def folder(tmp_path: Path, batch_size: int | None = None, **options: object) -> RunFolder:
    sampler = SamplerSettings(batch_size=batch_size, **options)
    return RunFolder(SynthesisSettings(slides=tmp_path, out=tmp_path / "run", sampler=sampler))


def written(run: RunFolder) -> dict[str, object]:
    return json.loads((run.root / "run.json").read_text())


def never() -> int:
    raise AssertionError("the batch size is known already")


def test_it_is_found_once_and_kept(tmp_path: Path) -> None:
    with folder(tmp_path).opened("key") as run:
        assert written(run)["batch_size"] is None
        run.pin_batch_size(lambda: 64)
        assert run.settings.sampler.batch_size == 64
        assert written(run)["batch_size"] == 64
    with folder(tmp_path).opened("key") as again:
        assert again.settings.sampler.batch_size == 64
        again.pin_batch_size(never)
    with folder(tmp_path, 64).opened("key") as named:
        assert named.settings.sampler.batch_size == 64
    with pytest.raises(WorkFolderError, match="batch_size was 64, now 32"):
        folder(tmp_path, 32).opened("key").__enter__()


def test_a_number_given_before_anything_was_drawn_is_taken(tmp_path: Path) -> None:
    with folder(tmp_path).opened("key"):
        pass
    with folder(tmp_path, 8).opened("key") as run:
        assert written(run)["batch_size"] == 8
        run.pin_batch_size(never)
    with folder(tmp_path).opened("key") as again:
        assert again.settings.sampler.batch_size == 8


def test_parts_on_different_machines_agree(tmp_path: Path) -> None:
    first, second = (
        RunFolder(replace(folder(tmp_path).settings, part=Part(number, 2))) for number in (1, 2)
    )
    with first.opened("key") as one, second.opened("key") as two:
        one.pin_batch_size(lambda: 256)
        two.pin_batch_size(lambda: 64)
        assert two.settings.sampler.batch_size == 256


@pytest.mark.parametrize(
    "option", [{"block_cache": 2}, {"guidance_interval": (100.0, 900.0)}, {"compile": True}]
)
def test_options_that_change_bytes_cannot_be_mixed(tmp_path: Path, option) -> None:
    with folder(tmp_path, 4, **option).opened("key"):
        pass
    with folder(tmp_path, 4, **option).opened("key"):
        pass
    with pytest.raises(WorkFolderError, match=next(iter(option))):
        folder(tmp_path, 4).opened("key").__enter__()


def test_defaults_leave_earlier_work_folders_as_they_are(tmp_path: Path) -> None:
    assert not {"block_cache", "guidance_interval", "compile"} & set(
        folder(tmp_path).settings.identity()
    )
