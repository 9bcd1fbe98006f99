"""The leakage gate from end to end: refusals, copies planted by hand, mixing, noise, the ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hub_server.cli import app as hub
from pixcell_share.bundles import load_public_key, verify_bundle
from pixcell_share.errors import BundleError
from site_agent.home import SiteHome
from tests.site_agent.conftest import SITE_TOML, MainJob
from tests.site_agent.program import Finished, run

PATIENTS = 12


@pytest.fixture(scope="session")
def tiles(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tile set of twelve made-up patients of one class: pieces of the drawn slides."""
    from pixcell_share.slides import find_slides, find_tissue, lay_grid, open_slide, read_tiles

    folder = tmp_path_factory.mktemp("tiles")
    rows = ["file,case_id,label"]
    for number, record in enumerate(find_slides(phantoms)):
        with open_slide(record) as slide:
            grid = lay_grid(slide, find_tissue(slide))
            for place, tile in enumerate(read_tiles(slide, grid, 0, 16)):
                patient = f"pat-{number * 4 + place // 4:02d}"
                name = f"{patient}-{place % 4}.png"
                Image.fromarray(tile).save(folder / name)
                rows.append(f"{name},{patient},tissue")
    (folder / "tiles.csv").write_text("\n".join(rows) + "\n")
    return folder


def on_tiles(job: MainJob, tiles: Path, *more: object, out: Path | None = None) -> Finished:
    words = [
        "synthesize", "--tiles", tiles, "--table", tiles / "tiles.csv", "--out", out or job.out,
        "--home", job.site.folder, "--model", job.model, "--encoder", "nano",
        "--weights", job.model / "encoder", "--steps", 2, "--max-tiles", 2, "--batch-size", 4,
        "--json", *more,
    ]  # fmt: skip
    return run(job.folder / "log-tiles", *words)


@pytest.fixture(scope="session")
def passed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, founded: SiteHome, tiles: Path
) -> Path:
    """A folder with a run on `tiles` that passed, and its site."""
    folder = tmp_path_factory.mktemp("passed")
    shutil.copytree(founded.folder, folder / "site")
    done = on_tiles(MainJob(folder, tiny_model, SiteHome(folder / "site")), tiles)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def released(synthesize: MainJob, passed: Path) -> MainJob:
    """`passed`, for a test to do with as it likes."""
    shutil.rmtree(synthesize.site.folder)
    for folder in ("run", "site"):
        shutil.copytree(passed / folder, synthesize.folder / folder)
    return synthesize


@pytest.mark.slow
def test_copies_planted_by_hand_are_refused_and_shown(released: MainJob, tiles: Path) -> None:
    """The same cohort passes without them, and is refused with them, by a stated figure."""
    cohort = released.folder / "cohort" / "tissue"
    cohort.mkdir(parents=True)
    with h5py.File(released.out / "bundle" / "shard-00000.h5") as shard:
        for number, image in enumerate(shard["images"]):
            Image.fromarray(image).save(cohort / f"synthetic-{number}.png")
    clean = audit(released, cohort.parent)
    assert (clean.code, clean.json["verdict"]) == (0, "PASS"), clean.err

    for number in range(3):
        copy = np.rot90(np.asarray(Image.open(tiles / f"pat-0{number}-1.png")), number)
        Image.fromarray(copy).save(cohort / f"planted-{number}.png")
    refused = audit(released, cohort.parent)
    assert (refused.code, refused.json["verdict"]) == (4, "REFUSE")
    found = {test["name"]: test for test in refused.json["tests"]}["near_copies_in_pixels"]
    assert not found["passed"] and found["figures"]["near_copies"] == 3
    assert len(refused.json["refused_tiles"]["pixels"]) == 3
    page = Path(refused.json["page"]).read_text()
    assert page.count("<img") > clean_images(clean)


def clean_images(done: Finished) -> int:
    return Path(done.json["page"]).read_text().count("<img") - 6


def audit(job: MainJob, cohort: Path) -> Finished:
    words = ("--synthetic", cohort, "--format", "json", "--home", job.site.folder)
    return run(job.folder / "log-audit", "audit", job.out, *words)


@pytest.mark.slow
def test_an_audit_with_another_seed_repeats_the_verdict(released: MainJob) -> None:
    words = ("--seed", 7, "--format", "json", "--home", released.site.folder)
    done = run(released.folder / "log-seed", "audit", released.out, *words)
    assert (done.code, done.json["verdict"], done.json["seed"]) == (0, "PASS", 7)
    assert (released.out / "audit-seed-7.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("options", "mix"), [(("--mix", 3), 3), (("--dp-epsilon", 8), 0)])
def test_mixed_and_noised_cohorts(
    options: tuple[object, ...], mix: int, tiles: Path, synthesize: MainJob, site: SiteHome
) -> None:
    done = on_tiles(synthesize, tiles, *options)
    assert done.code == 0, done.err
    bundle = verify_bundle(synthesize.out / "bundle", [load_public_key(site.public_key)])
    tests = {test.name: test for test in bundle.audit.tests}
    assert tests["cohort"].figures["mix"] == mix
    assert tests["budget"].figures["private"] == (mix == 0)
    assert ("retrieval" in tests) == (mix > 0), "noised statistics have no source to retrieve"
    ledger = run(synthesize.folder / "log", "ledger", "--home", site.folder, "--json").json
    spent = ledger["largest"]
    assert (spent["releases"], spent["epsilon"] > 0) == ((1, False) if mix else (0, True))
    assert "pat-" not in (site.folder / "ledger.jsonl").read_text(), "a patient's name is in it"


@pytest.mark.slow
def test_one_patient_under_two_names_is_refused(
    tiles: Path, synthesize: MainJob, tmp_path: Path
) -> None:
    """Else one person could be in the cohort and in its control group."""
    twice = tmp_path / "twice"
    shutil.copytree(tiles, twice)
    shutil.copy(twice / "pat-03-1.png", twice / "again.png")
    with (twice / "tiles.csv").open("a") as table:
        table.write("again.png,somebody-else,tissue\n")
    done = on_tiles(synthesize, twice)
    assert done.code == 4
    assert "pat-03 and somebody-else" in done.json["error"]["cause"]
    assert "case_id" in done.json["error"]["remedy"]
    assert not (synthesize.out / "bundle").exists()


@pytest.mark.slow
def test_a_class_below_k_is_refused(tiles: Path, synthesize: MainJob) -> None:
    done = on_tiles(synthesize, tiles, "--mix", PATIENTS)
    assert done.code == 2
    assert "tissue" in done.json["error"]["cause"]


@pytest.mark.slow
def test_too_few_patients_are_refused_before_anything_is_drawn(
    tiles: Path, synthesize: MainJob, site: SiteHome
) -> None:
    site.config_file.write_text(SITE_TOML.replace("\npatients = 1", "\npatients = 50"))
    done = on_tiles(synthesize, tiles)
    assert done.code == 4
    assert "asks for at least 50" in done.json["error"]["cause"]
    assert not (synthesize.out / "work" / "draws").exists()


@pytest.mark.slow
def test_the_ledger_refuses_one_release_too_many(
    tiles: Path, synthesize: MainJob, site: SiteHome, tmp_path: Path
) -> None:
    site.config_file.write_text(SITE_TOML.replace("releases = 100", "releases = 1"))
    first = on_tiles(synthesize, tiles)
    assert first.code == 0, first.err
    shutil.rmtree(synthesize.out / "bundle")
    assert on_tiles(synthesize, tiles).json["digest"] == first.json["digest"], "charged twice"
    second = on_tiles(synthesize, tiles, "--steps", 3, out=tmp_path / "second")
    assert second.code == 4
    assert "budget" in second.json["error"]["cause"]
    assert not (tmp_path / "second" / "bundle").exists()
    figures = json.loads((tmp_path / "second" / "audit.json").read_text())
    assert figures["verdict"] == "REFUSE"


@pytest.mark.slow
def test_an_older_ledger_put_back_is_noticed(released: MainJob, tiles: Path) -> None:
    home = released.site
    for name in ("ledger.jsonl", "ledger.head"):
        (home.folder / name).unlink()
    home.config_file.write_text(SITE_TOML + "\n# limits that force a new release\n")
    shutil.rmtree(released.out / "bundle")
    again = on_tiles(released, tiles)
    assert again.code == 1
    assert again.json["error"]["code"] == "ledger"


@pytest.mark.slow
def test_the_hub_refuses_what_passes_its_own_limits(released: MainJob) -> None:
    bundle, key = released.out / "bundle", released.site.public_key
    words = ["verify", str(bundle), "--trust", str(key)]
    assert CliRunner().invoke(hub, words).exit_code == 0
    strict = CliRunner().invoke(hub, [*words, "--require", "patient_linkage.detectable<=0.3"])
    assert strict.exit_code != 0
    (bundle / "audit.dsse.json").unlink()
    with pytest.raises(BundleError):
        verify_bundle(bundle, [load_public_key(key)])


def test_the_encoder_that_conditions_cannot_audit(tiles: Path, synthesize: MainJob) -> None:
    done = on_tiles(synthesize, tiles, "--audit-encoder", "nano")
    assert done.code == 2
    assert "audit" in done.json["error"]["cause"] + done.json["error"]["remedy"]
