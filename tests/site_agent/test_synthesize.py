"""The main job as a user runs it, with a tiny model and drawn slides."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pixcell_share.bundles import load_public_key, verify_bundle
from site_agent.home import SiteHome
from tests.site_agent.conftest import MainJob
from tests.site_agent.program import run


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and change time of every file: a file that was written again differs."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.slow
def test_a_folder_of_slides_becomes_a_bundle_that_verifies(
    phantoms: Path, synthesize: MainJob, site: SiteHome, tmp_path: Path
) -> None:
    table = phantoms / "slides.csv"
    done = synthesize(phantoms, "--table", table)
    assert done.code == 0, done.err
    result = done.json
    counts = result["counts"]
    assert result["status"] == "done"
    assert counts["slides"] == counts["slides_used"] == 3
    assert counts["tiles_found"] == counts["tiles_embedded"] > 100
    assert counts["conditions"] == counts["tiles_generated"] == 12
    assert counts["tiles_generated"] == counts["tiles_released"] + counts["tiles_dropped"]

    bundle = verify_bundle(tmp_path / "run" / "bundle", [load_public_key(site.public_key)])
    assert bundle.digest == result["digest"]
    assert sum(bundle.manifest.counts.values()) == counts["tiles_released"]
    assert set(bundle.manifest.cohort.classes) < labels(table)
    with h5py.File(tmp_path / "run" / "bundle" / "shard-00000.h5") as shard:
        assert shard["images"].shape == (counts["tiles_released"], 256, 256, 3)
        assert shard["images"].dtype == np.uint8

    before = snapshot(tmp_path / "run")
    again = synthesize(phantoms, "--table", table)
    assert again.code == 0
    assert again.json["status"] == "nothing to do"
    assert again.json["digest"] == result["digest"]
    assert snapshot(tmp_path / "run") == before


def labels(table: Path) -> set[str]:
    return {line.split(",")[2] for line in table.read_text().splitlines()[1:]}


@pytest.mark.slow
def test_parts_done_apart_give_the_same_bytes(
    phantoms: Path, synthesize: MainJob, tmp_path: Path, unbroken: dict
) -> None:
    for part in ("2/2", "1/2"):
        done = synthesize(phantoms, "--array", part, out=tmp_path / "parts")
        assert done.code == 0, done.err
        assert done.json["status"] == "part done"
        assert not (tmp_path / "parts" / "bundle").exists()
    joined = synthesize(phantoms, out=tmp_path / "parts").json
    assert joined["digest"] == unbroken["digest"]
    assert joined["counts"] == unbroken["counts"]


@pytest.mark.slow
def test_bad_slides_are_left_out_with_their_reason(
    phantoms: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    slides = tmp_path / "wsi"
    (slides / "a").mkdir(parents=True)
    (slides / "b").mkdir()
    good = phantoms / "phantom_01.tiff"
    shutil.copy(good, slides / "a" / "same.tiff")
    shutil.copy(phantoms / "phantom_02.tiff", slides / "b" / "same.tiff")
    shutil.copy(phantoms / "phantom_03.tiff", slides / "third.tiff")
    (slides / "empty.svs").touch()
    (slides / "text.svs").write_text("this is not a slide\n")
    (slides / "cut.tiff").write_bytes(good.read_bytes()[:200_000])

    done = synthesize(slides)
    assert done.code == 3, done.err
    result = done.json
    codes = {entry["slide"]: entry["code"] for entry in result["left_out"]}
    assert codes == {"empty": "unreadable", "text": "unreadable", "cut": "unreadable"}
    assert all(entry["cause"] and entry["remedy"] for entry in result["left_out"])
    counts = result["counts"]
    assert counts["slides"] == 6 == counts["slides_used"] + counts["slides_left_out"]
    contours = sorted(path.stem for path in (tmp_path / "run" / "contours_geojson").iterdir())
    assert len(contours) == 3 and contours[2] == "third"
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(entry["cause"].split(":")[0] in report for entry in result["left_out"])


def test_nothing_to_use_is_an_error_that_names_each_slide(
    synthesize: MainJob, tmp_path: Path
) -> None:
    (tmp_path / "wsi").mkdir()
    (tmp_path / "wsi" / "text.svs").write_text("no slide")
    done = synthesize(tmp_path / "wsi")
    assert done.code == 1
    assert done.json["error"]["code"] == "no_tissue"
    assert "text" in done.json["error"]["remedy"]
    assert not (tmp_path / "run" / "bundle").exists()


def test_an_empty_folder_is_bad_usage(synthesize: MainJob, tmp_path: Path) -> None:
    (tmp_path / "wsi").mkdir()
    done = synthesize(tmp_path / "wsi")
    assert done.code == 2
    assert "no slide" in done.json["error"]["cause"]


@pytest.mark.slow
def test_a_work_folder_of_other_settings_or_another_site_is_refused(
    phantoms: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(phantoms / "phantom_01.tiff", one)
    alone = synthesize(one)
    assert alone.code == 4, "one patient leaves no control group"
    assert "INVALID" in alone.json["error"]["cause"]
    before = snapshot(tmp_path / "run")

    other = synthesize(one, "--per-tile", 2)
    assert other.code == 2
    assert "per_tile was 1, now 2" in other.json["error"]["cause"]

    stranger = SiteHome(tmp_path / "stranger")
    stranger.initialise()
    foreign = synthesize(one, "--home", stranger.folder)
    assert foreign.code == 2
    assert "key_id" in foreign.json["error"]["cause"]
    assert snapshot(tmp_path / "run") == before


@pytest.mark.slow
def test_a_dry_run_writes_nothing(phantoms: Path, synthesize: MainJob, tmp_path: Path) -> None:
    done = synthesize(phantoms, "--dry-run")
    assert done.code == 0, done.err
    plan = done.json
    assert not (tmp_path / "run").exists()
    assert plan["tiles"] > 100 and plan["synthetic"] == 18
    assert plan["seconds"] > 0 and plan["bytes_needed"] > 0


def test_the_first_run_makes_a_key_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "wsi").mkdir()
    (tmp_path / "wsi" / "text.svs").write_text("no slide")
    home = tmp_path / "home"
    words = ("--slides", tmp_path / "wsi", "--out", tmp_path / "run", "--home", home)
    done = run(tmp_path / "log", "synthesize", *words)
    assert "made a new site key" in done.err
    assert (home / "site.key").stat().st_mode & 0o077 == 0


def test_a_slide_without_mpp_is_left_out_until_it_is_given(
    phantoms: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    slides = tmp_path / "wsi"
    slides.mkdir()
    for number in (1, 2, 3):
        shutil.copy(phantoms / f"phantom_0{number}.tiff", slides)
    with tifffile.TiffFile(phantoms / "phantom_02.tiff") as tiff:
        pixels = tiff.pages[0].asarray()[:1536, :1536]
    tifffile.imwrite(slides / "bare.tiff", pixels, tile=(256, 256), photometric="rgb")
    table = tmp_path / "slides.csv"
    slides_of = [f"phantom_0{number}.tiff,{case}," for number, case in enumerate("abc", 1)]
    rows = "\n".join(["slide,case_id,mpp", *slides_of, "bare.tiff,b,"])
    table.write_text(f"{rows}\n")

    first = synthesize(slides, "--table", table)
    assert first.code == 3, first.err
    assert [entry["code"] for entry in first.json["left_out"]] == ["mpp_missing"]
    assert "--mpp" in first.json["left_out"][0]["remedy"]
    features = synthesize.out / "20x_256px_0px_overlap" / "features_nano" / "phantom_01.h5"
    made = features.stat().st_mtime_ns

    table.write_text(f"{rows}0.25\n")
    second = synthesize(slides, "--table", table)
    assert second.code == 0, second.err
    assert second.json["counts"]["slides_used"] == 4
    assert features.stat().st_mtime_ns == made, "a finished slide was done again"
    assert second.json["digest"] != first.json["digest"]
    kept = synthesize.out / f"bundle-{first.json['digest'][:12]}"
    assert kept.is_dir(), "the earlier bundle was not kept"


@pytest.mark.parametrize("limit", [60_000, 400_000])
def test_a_full_disk_is_said_plainly_and_loses_nothing(
    limit: int, phantoms: Path, synthesize: MainJob, unbroken: dict
) -> None:
    full = synthesize(phantoms, file_limit=limit)
    assert full.code == 1
    assert full.json["error"]["code"] == "storage"
    assert "full" in full.json["error"]["cause"]
    assert not (synthesize.out / "bundle").exists()
    assert synthesize(phantoms).json["digest"] == unbroken["digest"]


def test_two_processes_do_not_share_a_work_folder(phantoms: Path, synthesize: MainJob) -> None:
    running = synthesize.start(phantoms)
    while not (synthesize.out / "run.json").exists():
        time.sleep(0.01)
        assert running.process.is_alive()
    second = synthesize(phantoms)
    assert second.code == 2
    assert "another process" in second.json["error"]["cause"]
    assert running.wait().code == 0
