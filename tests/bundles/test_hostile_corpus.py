"""The published corpus is what its generator writes, and holds what is promised of it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from hub_server.intake import Reason
from tests.bundles.hostile_corpus.__main__ import write_corpus
from tests.bundles.hostile_corpus.laying import CASES, CORPUS, read_cases

MEGABYTE = 1 << 20


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_corpus_has_forty_kinds_or_more_each_with_a_known_reason() -> None:
    cases = read_cases()
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)) >= 40
    assert {case["reason"] for case in cases} <= set(Reason)


def test_the_corpus_is_small() -> None:
    assert sum(len(data) for data in _files(CORPUS).values()) < 3 * MEGABYTE


def test_every_reason_that_a_bundle_can_cause_has_a_case() -> None:
    """The rest needs another hub or a broken machine, and has tests of its own."""
    elsewhere = {
        Reason.NOT_A_FOLDER,
        Reason.FILE_UNREADABLE,
        Reason.FILE_CHANGED_MEANWHILE,
        Reason.OVER_QUOTA,
        Reason.READER_DIED,
        Reason.READER_TOO_SLOW,
        Reason.READER_TALKED_NONSENSE,
    }
    assert set(Reason) - {Reason(case["reason"]) for case in read_cases()} == elsewhere


def test_the_generator_writes_the_corpus_again(tmp_path: Path) -> None:
    published = json.loads((CORPUS / CASES).read_text())["made_with"]
    if published["hdf5"] != h5py.version.hdf5_version:
        pytest.skip(f"the corpus was made with HDF5 {published['hdf5']}, which lays out files so")
    write_corpus(tmp_path)
    made, kept = _files(tmp_path), _files(CORPUS)
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []
