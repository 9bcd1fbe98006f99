"""The main job on the real slides beside the checkout, with the packaged model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from site_agent.home import SiteHome
from tests.site_agent.program import run


@pytest.mark.slow
def test_real_slides(shared_data: Path, tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "site")
    home.initialise()
    limits = home.config_file.read_text()
    # Two patients and eight tiles: any rate would be chance.
    for entry, loose in (
        ("\npatients = 5", "\npatients = 2"),
        ("\nclass_patients = 3", "\nclass_patients = 2"),
        ("\nretrieval_excess = 0.1", "\nretrieval_excess = 1"),
        ("\nlinkage_residual = 0.1", "\nlinkage_residual = 1"),
    ):
        assert entry in limits
        limits = limits.replace(entry, loose)
    home.config_file.write_text(limits)
    words = (
        "synthesize", "--slides", shared_data / "slides", "--out", tmp_path / "run",
        "--home", home.folder, "--max-tiles", 4, "--steps", 8, "--json",
    )  # fmt: skip
    done = run(tmp_path / "log", *words)
    assert done.code == 3, done.err
    result = done.json
    assert {entry["slide"]: entry["code"] for entry in result["left_out"]} == {
        "fluorescence_not_HE": "not_brightfield"
    }
    assert result["counts"]["slides_used"] == 3
    assert result["counts"]["tiles_found"] > 60
    assert result["counts"]["tiles_generated"] == 8
    draws = [np.load(path) for path in sorted((tmp_path / "run" / "work" / "draws").rglob("*.npy"))]
    tiles = np.concatenate(draws).astype(float)
    assert tiles.std(axis=(1, 2)).min() > 5, "a synthetic tile is blank"
    assert np.abs(tiles[0] - tiles[-1]).mean() > 5, "the synthetic tiles are all alike"

    again = run(tmp_path / "log", *words)
    assert again.code == 3
    assert again.json["status"] == "nothing to do"
