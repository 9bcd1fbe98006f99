"""Tile sets: the table, pictures in place of a slide, and the tiling step of a site."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcell_share.errors import (
    NotBrightfieldError,
    NoTissueError,
    SettingsError,
    SlideError,
    SlideUnreadableError,
)
from pixcell_share.pixcell import SamplerSettings
from pixcell_share.progress import LineView
from pixcell_share.slides import (
    SlideRecord,
    TilingSettings,
    find_tile_sets,
    lay_pictures,
    open_slide,
    read_coords,
    read_tiles,
)
from site_agent.clock import Clock
from site_agent.doctor import DoctorSettings
from site_agent.doctor.slides import examine_slides
from site_agent.plan import make_plan
from site_agent.run_folder import RunFolder
from site_agent.settings import SynthesisSettings
from site_agent.steps.tiling import tile_slides

SMALL = TilingSettings(tile_px=64)


def tissue(seed: int, side: int = 64) -> np.ndarray:
    """(side, side, 3): pink and violet grain, as far from glass as from pen."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(0, 60, (side // 8, side // 8, 1)).repeat(8, 0).repeat(8, 1)
    return (np.array([205, 130, 185]) - blobs + rng.integers(-12, 12, (side, side, 3))).astype(
        np.uint8
    )


def put(path: Path, pixels: np.ndarray) -> Path:
    """Save pixels as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def table(folder: Path, text: str) -> Path:
    path = folder / "tiles.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three patients with 3, 2 and 1 tiles of two classes, and a table of them."""
    rows = ["file,case_id,label,scanner"]
    patients = (("P1", 3, "tumour"), ("P2", 2, "normal"), ("P3", 1, "normal"))
    for number, (patient, count, label) in enumerate(patients):
        for tile in range(count):
            put(tmp_path / f"tiles/{patient}_{tile}.png", tissue(10 * number + tile))
            rows.append(f"{patient}_{tile}.png,{patient},{label},X")
    table(tmp_path, "\n".join(rows))
    return tmp_path


def pictures(*paths: Path, mpp: float | None = None) -> SlideRecord:
    return SlideRecord("set", paths[0].parent, mpp, pictures=paths)


# -- the table --------------------------------------------------------------------------------


def test_tiles_of_one_patient_and_label_are_one_record(cohort) -> None:
    records = find_tile_sets(cohort / "tiles", cohort / "tiles.csv")
    found = [(r.slide_id, r.case_id, r.label, len(r.pictures)) for r in records]
    assert found == [
        ("P1", "P1", "tumour", 3),
        ("P2", "P2", "normal", 2),
        ("P3", "P3", "normal", 1),
    ]
    assert records[0].pictures[1] == cohort / "tiles/P1_1.png"
    assert records[0].path == cohort / "tiles"


def test_columns_may_have_other_names(tmp_path) -> None:
    put(tmp_path / "a.png", tissue(0))
    text = "\ufefffile,donor,kind,case_id\na.png,D1,lung,other\n"
    (record,) = find_tile_sets(tmp_path, table(tmp_path, text), patient="donor", label="kind")
    assert (record.case_id, record.label) == ("D1", "lung")


def test_a_patient_with_two_labels_gives_two_records(tmp_path) -> None:
    for name in "abc":
        put(tmp_path / f"{name}.png", tissue(0))
    text = "file,case_id,label\na.png,P,x\nb.png,P,y\nc.png,P,\n"
    records = find_tile_sets(tmp_path, table(tmp_path, text))
    assert [record.slide_id for record in records] == ["P-unlabelled", "P-x", "P-y"]
    assert {record.case_id for record in records} == {"P"}


def test_ids_can_be_file_names_and_stay_apart(tmp_path) -> None:
    names = ["a/b", "a-b", "A-B", "../up", ".", "Ärztin 7", "x" * 300]
    for number in range(len(names)):
        put(tmp_path / f"{number}.png", tissue(0))
    rows = [f"{number}.png,{name}" for number, name in enumerate(names)]
    records = find_tile_sets(tmp_path, table(tmp_path, "file,case_id\n" + "\n".join(rows)))
    ids = [record.slide_id for record in records]
    assert len({slide_id.casefold() for slide_id in ids}) == len(names)
    for slide_id in ids:
        assert Path(slide_id).name == slide_id
        assert not slide_id.startswith((".", "-"))
        assert len(slide_id) < 100
    assert sorted(str(record.case_id) for record in records) == sorted(names)


def test_without_patients_each_picture_is_its_own(tmp_path) -> None:
    put(tmp_path / "a.png", tissue(0))
    put(tmp_path / "b.png", tissue(1))
    records = find_tile_sets(tmp_path, table(tmp_path, "file,label\na.png,x\nb.png,x\n"))
    assert [(r.slide_id, r.case_id, r.label) for r in records] == [
        ("a", None, "x"),
        ("b", None, "x"),
    ]


def test_without_a_table_the_folder_is_the_label(tmp_path) -> None:
    for name in ("x/1.png", "x/deep/2.JPG", "y/1.tif", "loose.jpeg", ".hidden/3.png", "n.txt"):
        put(tmp_path / name, tissue(0)) if name != "n.txt" else (tmp_path / name).touch()
    records = find_tile_sets(tmp_path)
    assert sorted((r.label or "", r.pictures[0].name) for r in records) == [
        ("", "loose.jpeg"),
        ("x", "1.png"),
        ("x", "2.JPG"),
        ("y", "1.tif"),
    ]
    assert len({record.slide_id for record in records}) == 4
    assert all(record.case_id is None for record in records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,case_id\ngone.png,P\n", "row 2: there is no gone.png"),
        ("file,case_id\na.png,P\n./a.png,P\n", r"row 3: a.png was already named in row 2"),
        ("file,case_id\n../secret.png,P\n", "row 2: ../secret.png does not lie"),
        ("file,case_id\n/etc/passwd,P\n", "row 2: /etc/passwd does not lie"),
        ("file,case_id\na\\..\\..\\b.png,P\n", "does not lie"),
        ("file,case_id\nC:/b.png,P\n", "does not lie"),
        ("file,case_id\na.png,\n", "row 2: the case_id column is empty"),
        ("file,case_id\n,P\n", "row 2: the file column is empty"),
        ("file,case_id\na.png,P,more\n", "more fields than the header"),
        ("file,file\na.png,a.png\n", "a column appears twice"),
        ("name,case_id\na.png,P\n", "no column named file"),
        ("file,case_id\n", "names no picture"),
    ],
)
def test_a_wrong_table_names_its_row(tmp_path, text, message) -> None:
    put(tmp_path / "tiles/a.png", tissue(0))
    put(tmp_path / "secret.png", tissue(0))
    with pytest.raises(SettingsError, match=message):
        find_tile_sets(tmp_path / "tiles", table(tmp_path, text))


def test_a_column_that_was_asked_for_must_be_there(cohort) -> None:
    for wanted in ({"patient": "donor"}, {"label": "donor"}):
        with pytest.raises(SettingsError, match="there is no column named donor"):
            find_tile_sets(cohort / "tiles", cohort / "tiles.csv", **wanted)


def test_wrong_folders_and_resolutions_are_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match="there is no folder"):
        find_tile_sets(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="no picture"):
        find_tile_sets(tmp_path)
    with pytest.raises(SettingsError, match="--mpp 40"):
        find_tile_sets(tmp_path, mpp=40)


def test_the_stamp_notices_every_changed_picture(cohort) -> None:
    records = find_tile_sets(cohort / "tiles", cohort / "tiles.csv")
    before = [record.stamp() for record in records]
    assert before == [record.stamp() for record in records]
    path = cohort / "tiles/P1_1.png"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**9))  # an older copy
    assert records[0].stamp() != before[0]
    assert records[1].stamp() == before[1]
    path.unlink()
    gone = records[0].stamp()
    assert gone not in (before[0], SlideRecord("x", path).stamp())


# -- pictures in place of a slide -------------------------------------------------------------


def test_each_picture_is_resized_as_pillow_does(tmp_path) -> None:
    first, second = put(tmp_path / "a.png", tissue(1)), put(tmp_path / "b.png", tissue(2, 96))
    with open_slide(pictures(first, second)) as strip:
        assert (strip.width, strip.height) == (128, 64)
        np.testing.assert_array_equal(strip.square(0, 0, 64, 64), tissue(1))
        expected = Image.fromarray(tissue(2, 96)).resize((80, 80), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(strip.square(64, 0, 64, 80), np.asarray(expected))
        np.testing.assert_array_equal(strip.region(64, 0, 80, 0.5), np.asarray(expected))
        for x, y, size in ((1, 0, 64), (0, 64, 64), (0, 0, 32), (128, 0, 64), (-64, 0, 64)):
            with pytest.raises(ValueError, match="no picture fills"):
                strip.square(x, y, size, 64)


def test_transparent_pixels_are_white(tmp_path) -> None:
    see_through = np.dstack([tissue(0), np.zeros((64, 64), np.uint8)])
    with open_slide(pictures(put(tmp_path / "a.png", see_through))) as strip:
        assert (strip.region(0, 0, 64, 0.5) == 255).all()


def test_what_is_no_tile_is_refused_with_its_name(tmp_path) -> None:
    long = put(tmp_path / "long.png", tissue(0)[:32])
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(deep)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cut = put(tmp_path / "cut.jpg", tissue(0))
    cut.write_bytes(cut.read_bytes()[:-200])
    for path, message in ((long, "64 x 32 px"), (deep, "eight bits"), (text, "cannot be read")):
        with pytest.raises(SlideUnreadableError, match=f"{path.name}.*{message}"):
            open_slide(pictures(path))
    with pytest.raises(SlideUnreadableError, match=r"cut\.jpg cannot be read"):
        open_slide(pictures(cut)).region(0, 0, 64, 0.5)


def test_glass_and_pen_are_left_out_and_counted(tmp_path) -> None:
    glass = put(tmp_path / "glass.png", np.full((256, 256, 3), 240, np.uint8))
    ink = tissue(5, 256)
    ink[:, :128] = (20, 90, 40)
    paths = [put(tmp_path / f"{i}.png", tissue(i, 256)) for i in range(3)]
    paths[1:1] = [glass, put(tmp_path / "pen.png", ink)]
    with open_slide(pictures(*paths)) as strip:
        laid = lay_pictures(strip)
        tiles = list(read_tiles(strip, laid.grid))
    assert laid.grid.coords.tolist() == [[0, 0], [768, 0], [1024, 0]]
    report = laid.grid.report
    assert (report.candidates, report.kept, report.blank, report.pen) == (5, 3, 1, 1)
    np.testing.assert_array_equal(tiles, [tissue(i, 256) for i in range(3)])
    with open_slide(pictures(glass)) as strip, pytest.raises(NoTissueError, match="1 blank"):
        lay_pictures(strip)


def test_fluorescence_is_refused(tmp_path) -> None:
    dark = tissue(0).copy()
    dark[..., :2] = 0
    record = pictures(put(tmp_path / "a.png", dark))
    with open_slide(record) as strip, pytest.raises(NotBrightfieldError):
        lay_pictures(strip, SMALL)


@pytest.mark.parametrize(("mpp", "note"), [(None, "µm/px unknown"), (0.5, ""), (0.55, "0.55")])
def test_the_resolution_is_said(tmp_path, mpp, note) -> None:
    with open_slide(pictures(put(tmp_path / "a.png", tissue(0)), mpp=mpp)) as strip:
        laid = lay_pictures(strip, SMALL)
    assert bool(laid.notes) == bool(note)
    assert note in "".join(laid.notes)
    assert (laid.grid.mpp, laid.mpp) == (0.5, mpp or 0.5)


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_another_known_resolution_is_refused(tmp_path, mpp) -> None:
    with open_slide(pictures(put(tmp_path / "a.png", tissue(0)), mpp=mpp)) as strip:
        with pytest.raises(SlideError, match=f"they are at {mpp:g} µm/px, not 0.5"):
            lay_pictures(strip, SMALL)
        # The same picture, shrunk or enlarged to a tile of 0.5 µm/px, is welcome.
        assert not lay_pictures(strip, TilingSettings(tile_px=round(128 * mpp))).notes


# -- the steps of a site ----------------------------------------------------------------------


def settings_of(cohort: Path, **options: object) -> SynthesisSettings:
    return SynthesisSettings(
        tiles=cohort / "tiles",
        table=cohort / "tiles.csv",
        out=cohort / "run",
        tiling=TilingSettings(tile_px=96),
        **options,
    )


def test_tiling_of_three_patients(cohort) -> None:
    records = find_tile_sets(cohort / "tiles", cohort / "tiles.csv")
    put(cohort / "tiles/P3_0.png", tissue(0)[:10])  # not square: this patient is left out
    with RunFolder(settings_of(cohort)).opened("key") as run:
        states = tile_slides(run, records, LineView(), Clock())
        assert [state.tiles for state in states] == [3, 2, 0]
        assert states[2].reason["code"] == "unreadable"
        assert states[0].notes == ("µm/px unknown: taken as the 0.5 asked for",)
        assert states[0].mpp_source == "unknown"
        assert Image.open(run.thumbnail("P1")).size == (192, 192)
        for record in records[:2]:
            _check_tiles(run, record)
        again = tile_slides(run, records[:2], LineView(), Clock())
    assert again == states[:2]


def _check_tiles(run: RunFolder, record: SlideRecord) -> None:
    """What the grid on disk reads is the pictures, by `read_tiles` and one by one."""
    grid = read_coords(run.coords(record.slide_id))
    with open_slide(record) as strip:
        tiles = list(read_tiles(strip, grid))
        for tile, (x, y), path in zip(tiles, grid.coords.tolist(), record.pictures, strict=True):
            expected = Image.open(path).resize((96, 96), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(tile, np.asarray(expected))
            np.testing.assert_array_equal(strip.region(x, y, 96, 0.5), tile)
        assert len(read_coords(run.coords(record.slide_id), strip)) == len(tiles)


def test_coords_do_not_go_with_tile_sets(cohort) -> None:
    records = find_tile_sets(cohort / "tiles", cohort / "tiles.csv")
    run = RunFolder(settings_of(cohort, coords=cohort))
    with run.opened("key"), pytest.raises(SettingsError, match="--coords goes with slides"):
        tile_slides(run, records, LineView(), Clock())


def test_the_plan_counts_pictures(cohort) -> None:
    settings = SynthesisSettings(
        tiles=cohort / "tiles",
        table=cohort / "tiles.csv",
        out=cohort / "run",
        per_tile=2,
        sampler=SamplerSettings(steps=1, batch_size=2),
    )
    plan = make_plan(settings, LineView())
    assert [(slide.slide_id, slide.tiles) for slide in plan.slides] == [
        ("P1", 3),
        ("P2", 2),
        ("P3", 1),
    ]
    assert plan.tiles == 6
    assert plan.rates is not None
    assert plan.rates.read > 0


def test_the_doctor_looks_at_every_picture(cohort) -> None:
    settings = DoctorSettings(
        tiles=cohort / "tiles", table=cohort / "tiles.csv", out=cohort / "run", home=cohort
    )
    survey = examine_slides(settings)
    assert [(check.name, check.status) for check in survey.checks] == [("tile sets", "ok")]
    assert "3 of 3 readable, µm/px unknown" in survey.checks[0].detail
    assert survey.tiles == 6
    (cohort / "tiles/P1_2.png").write_bytes(b"")
    bad = examine_slides(settings).checks
    assert [(check.name, check.status) for check in bad[1:]] == [("slide P1", "fail")]


def test_the_doctor_says_where_no_patient_is_named(cohort) -> None:
    checks = examine_slides(
        DoctorSettings(tiles=cohort / "tiles", out=cohort / "run", home=cohort)
    ).checks
    assert [(check.name, check.status) for check in checks[1:]] == [("patients", "warn")]
    assert "each picture counts as a patient of its own" in checks[1].detail


# -- real tiles -------------------------------------------------------------------------------


def test_the_lung_tiles_by_near_duplicate_group(shared_data) -> None:
    folder = shared_data / "lung_tiles"
    records = find_tile_sets(
        folder, folder / "manifest.csv", patient="near_duplicate_group", label="class"
    )
    assert len(records) == 523
    assert sum(len(record.pictures) for record in records) == 10_749
    assert {record.label for record in records} == {"lung_n", "lung_aca", "lung_scc"}
    for record in records[::80]:
        with open_slide(record) as strip:
            laid = lay_pictures(strip)
        assert laid.grid.report.kept == len(record.pictures)
        assert max(laid.sheet.shape) <= 1400
