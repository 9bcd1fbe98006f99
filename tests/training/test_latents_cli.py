"""`pixcell-train latents`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixcell_share import console
from pixcell_share.training.cli import app
from pixcell_share.training.latents import LatentStore
from tests.tiny import make_tiny_model
from tests.training.latents_making import make_store
from tests.training.latents_pictures import draw_pictures, write_table


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        console.run(app, [str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def last_json(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return value


def test_help_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "latents", "--help")
    assert code == 0
    assert "--holdout-by" in out and "summary" in out
    assert "pixcell-train latents check store" in out.rstrip().splitlines()[-1]


def test_neither_or_both_inputs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "latents", "--out", tmp_path / "s", "--json")
    assert code == 2 and "--slides or --regions" in err
    assert last_json(out)["error"]["code"] == "settings"
    code, _, err = run(capsys, "latents", "--slides", tmp_path, "--regions", tmp_path)
    assert code == 2 and "either --slides or --regions" in err


def test_from_pictures_to_a_checked_store(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "tiny", input_px=32)
    folder = draw_pictures(tmp_path / "pictures", 5, px=512)
    (folder / "bad.png").write_bytes(b"x")
    store = tmp_path / "store"
    words = (
        "latents", "--regions", folder, "--out", store, "--region-px", 512, "--vae", model,
        "--encoder", "nano", "--weights", model / "encoder", "--device", "cpu", "--json",
    )  # fmt: skip
    code, out, err = run(capsys, *words)
    assert code == 3 and "left out bad.png" in err
    made = last_json(out)
    assert (made["found"], made["used"], len(made["left_out"])) == (6, 5, 1)
    assert sum(made["rows"].values()) == 5
    assert run(capsys, "latents", "check", store)[0] == 0
    assert run(capsys, *words)[0] == 3, "a second run says the same"


def test_weights_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "pictures", 1)
    words = ("latents", "--regions", folder, "--region-px", 256, "--out", tmp_path / "s")
    code, _, err = run(capsys, *words, "--vae", tmp_path / "none", "--encoder", "nano")
    assert code == 1 and "--vae" in err
    code, _, err = run(capsys, *words, "--vae", "nano", "--encoder", "uni3")
    assert code == 2 and "no encoder 'uni3'" in err


def test_summary_counts_as_the_paper_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = make_store(tmp_path / "a", train=12, holdout=3)
    second = make_store(tmp_path / "b", train=4, holdout=0)  # the same slides again
    code, out, _ = run(capsys, "latents", "summary", first, second, "--json")
    assert code == 0
    value = last_json(out)
    # Two rows a slide, four a case, of 2 x 2 patches each; see latents_making.
    whole = {"slides": 8, "cases": 4, "regions": {"512": 19}, "patches_256": 76}
    assert value["sources"] == {"here": whole} and value["organs"] == {"lung": whole}
    assert value["splits"]["holdout"] == {
        "slides": 2, "cases": 1, "regions": {"512": 3}, "patches_256": 12,
    }  # fmt: skip
    assert value["stores"][0]["rows"] == {"train": 12, "holdout": 3}
    assert value["stores"][0]["bytes"] == sum(p.stat().st_size for p in first.iterdir())
    code, out, _ = run(capsys, "latents", "summary", first)
    assert code == 0 and "Table 2" in out and "512 px regions" in out and "lung" in out


def test_check_names_rows_and_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    path = store / "train-00001.embeddings.npy"
    array = np.load(path)
    array[[1, 4], 0, 0] = np.nan
    np.save(path, array)
    code, out, _ = run(capsys, "latents", "check", store, "--json")
    assert code == 1
    whats = [fault["what"] for fault in last_json(out)["faults"]]
    assert any("NaN or infinite embeddings in row 1, 4" in what for what in whats)


@pytest.mark.slow
def test_real_slides(capsys: pytest.CaptureFixture[str], shared_data: Path, tmp_path: Path) -> None:
    slides = shared_data / "slides"
    table = write_table(
        tmp_path / "slides.csv",
        ["slide", "case_id", "organ", "source", "split"],
        [
            ["CMU-1-Small-Region.svs", "cmu", "skin", "OpenSlide", ""],
            ["breast_1008.tiff", "b8", "breast", "TCGA", "holdout"],
            ["breast_1015.tiff", "b15", "breast", "TCGA", "train"],
            ["fluorescence_not_HE.ndpi", "", "", "", ""],
        ],
    )
    store = tmp_path / "store"
    code, out, err = run(
        capsys, "latents", "--slides", slides, "--table", table, "--out", store, "--vae", "nano",
        "--encoder", "nano", "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 3, err
    made = last_json(out)
    assert [entry["name"] for entry in made["left_out"]] == ["fluorescence_not_HE"]
    assert made["left_out"][0]["code"] == "not_brightfield"
    assert (made["found"], made["used"]) == (4, 3)
    rows = sum(made["rows"].values())
    assert rows == made["candidates"]["kept"] >= 3

    opened = LatentStore.open(store)
    assert opened.info.region_px == 1024 and opened.info.grid == 4
    assert {row.slide for row in opened.index("holdout")} >= {"breast_1008"}
    regions = opened.read("train", np.arange(opened.count("train")))
    assert regions.finite.all() and regions.latents.astype(float).std() > 0.1
    assert regions.embeddings.shape[1] == 16
    assert run(capsys, "latents", "check", store)[0] == 0
    value = last_json(run(capsys, "latents", "summary", store, "--json")[1])
    assert set(value["sources"]) == {"TCGA", "OpenSlide"}
    assert value["total"]["patches_256"] == 16 * rows
