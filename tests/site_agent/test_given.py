"""A site that has TRIDENT's coordinates and features starts from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.site_agent.conftest import MainJob


@pytest.fixture
def slides(phantoms: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for path in phantoms.glob("*.tiff"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.slow
def test_coords_and_features_are_taken_over(
    slides: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    first = synthesize(slides)
    assert first.code == 0, first.err
    trident = synthesize.out / "20x_256px_0px_overlap"
    given = tmp_path / "given"
    shutil.copytree(trident, given)
    with h5py.File(given / "patches" / "phantom_01_patches.h5", "r+") as file:
        before = len(file["coords"])
        kept = file["coords"][::2]
        attributes = dict(file["coords"].attrs)
        del file["coords"]
        file["coords"] = kept
        file["coords"].attrs.update(attributes)
    half = synthesize(slides, "--coords", given, out=tmp_path / "half")
    assert half.code == 0, half.err
    left = first.json["counts"]["tiles_found"] - half.json["counts"]["tiles_found"]
    assert left == before - len(kept)

    words = ("--coords", trident, "--features", trident / "features_nano")
    taken = synthesize(slides, *words, out=tmp_path / "taken")
    assert taken.code == 0, taken.err
    assert taken.json["counts"] == first.json["counts"]
    with (
        h5py.File(trident / "features_nano" / "phantom_01.h5") as ours,
        h5py.File(tmp_path / "taken" / trident.name / "features_nano" / "phantom_01.h5") as theirs,
    ):
        assert np.array_equal(ours["features"], theirs["features"])

    mixed = synthesize(
        slides, "--coords", given, "--features", trident / "features_nano", out=tmp_path / "mixed"
    )
    assert mixed.code in (3, 4), "one slide is left out; the others may be too few"
    assert "not of the tiles in use" in mixed.err


@pytest.mark.slow
def test_coords_for_other_tiles_are_refused(
    slides: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    assert synthesize(slides).code == 0
    trident = synthesize.out / "20x_256px_0px_overlap"
    done = synthesize(slides, "--coords", trident, "--tile-mpp", 1.0, out=tmp_path / "other")
    assert done.code == 1
    assert "--tile-mpp" in done.json["error"]["remedy"] + done.err
