"""Finding slides and joining slides.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixcell_share.errors import SettingsError
from pixcell_share.slides import find_slides, unlisted_slides


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def _table(folder: Path, text: str) -> Path:
    path = folder / "slides.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _ids(folder: Path) -> list[str]:
    return [record.slide_id for record in find_slides(folder)]


def test_searches_subfolders_in_order_of_id(tmp_path):
    _touch(tmp_path, "b/z.svs", "a/deep/m.TIFF", "k.ndpi", "notes.txt", "mask.png")
    assert _ids(tmp_path) == ["k", "m", "z"]


def test_passes_over_hidden_files_and_folders(tmp_path):
    _touch(tmp_path, "a.svs", "._a.svs", ".trash/b.svs")
    assert _ids(tmp_path) == ["a"]


def test_does_not_enter_the_data_folder_of_an_mrxs_slide(tmp_path):
    _touch(tmp_path, "a.mrxs", "a/Slidedat.ini", "a/preview.tif", "other/b.tif")
    assert _ids(tmp_path) == ["a", "b"]


def test_a_folder_of_dicom_files_is_one_slide(tmp_path):
    _touch(tmp_path, "case1/1.2.3.dcm", "case1/1.2.4.dcm", "case2/1.2.3.dcm")
    records = find_slides(tmp_path)
    assert [record.slide_id for record in records] == ["case1", "case2"]
    assert records[0].path == tmp_path / "case1/1.2.3.dcm"


def test_equal_names_in_two_folders_get_lasting_ids(tmp_path):
    _touch(tmp_path, "a/slide.svs", "b/slide.svs", "b/SLIDE2.svs", "c/slide2.svs", "alone.svs")
    ids = _ids(tmp_path)
    assert len(set(ids)) == 5
    assert "alone" in ids
    assert sum(name.startswith("slide-") for name in ids) == 2
    # An id depends on the slide's own path only, so that a new slide does not rename the others.
    _touch(tmp_path, "d/slide.svs", "new.svs")
    assert set(ids) < set(_ids(tmp_path))


def test_ids_differ_also_where_the_file_system_ignores_case(tmp_path):
    _touch(tmp_path, "a/S.svs", "b/s.svs")
    assert len({name.casefold() for name in _ids(tmp_path)}) == 2


def test_one_file_is_a_cohort_of_one(tmp_path):
    _touch(tmp_path, "one.svs", "two.svs")
    assert [record.slide_id for record in find_slides(tmp_path / "one.svs")] == ["one"]


def test_empty_and_missing_folders_are_errors(tmp_path):
    with pytest.raises(SettingsError, match="no slide in"):
        find_slides(tmp_path)
    with pytest.raises(SettingsError, match="there is no folder"):
        find_slides(tmp_path / "nowhere")


def test_mpp_option_reaches_every_slide(tmp_path):
    _touch(tmp_path, "a.svs")
    assert find_slides(tmp_path, mpp=0.5)[0].mpp == 0.5
    with pytest.raises(SettingsError, match="--mpp 40"):
        find_slides(tmp_path, mpp=40)


def test_table_joins_by_name_or_relative_path(tmp_path):
    _touch(tmp_path, "a.svs", "sub/b.svs", "sub/c.svs")
    table = _table(tmp_path, "slide,mpp,case_id,label\na.svs,0.25,P1,tumour\nsub/b.svs,,P2,\n")
    a, b = find_slides(tmp_path, table=table, mpp=0.5)
    assert (a.mpp, a.case_id, a.label) == (0.25, "P1", "tumour")
    assert (b.mpp, b.case_id, b.label) == (0.5, "P2", None)
    assert unlisted_slides(tmp_path, table) == ["sub/c.svs"]


def test_table_from_a_spreadsheet_with_byte_order_mark_and_spaces(tmp_path):
    _touch(tmp_path, "a.svs")
    table = tmp_path / "slides.csv"
    table.write_bytes("\ufeffslide , case_id\r\n a.svs , P1 \r\n\r\n".encode())
    assert find_slides(tmp_path, table=table)[0].case_id == "P1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name\na.svs\n", "row 1: there is no column named slide"),
        ("slide,color\na.svs,red\n", "row 1: unknown column 'color'"),
        ("slide,slide\na.svs,a.svs\n", "row 1: a column appears twice"),
        ("slide\na.svs\na.svs\n", "row 3: a.svs was already named in row 2"),
        ("slide\na.svs\nsub/../a.svs\n", "row 3: there is no slide"),
        ("slide\nb.svs\nsub/b.svs\n", "row 3: sub/b.svs was already named in row 2"),
        ("slide\nmissing.svs\n", "row 2: there is no slide missing.svs"),
        ("slide,mpp\na.svs,forty\n", "row 2: mpp 'forty' is no number"),
        ("slide,mpp\na.svs,40\n", "row 2: mpp 40 is not between"),
        ("slide,mpp\na.svs,nan\n", "row 2: mpp nan is not between"),
        ("slide,mpp\na.svs,0.5,P1\n", "row 2: it has more fields than the header"),
        ("slide,mpp\n,0.5\n", "row 2: the slide column is empty"),
        ("slide\nsame.svs\n", "row 2: same.svs names 2 slides"),
        ("slide\n", "names no slide"),
        ("", "row 1: there is no column named slide"),
    ],
)
def test_a_wrong_table_names_its_row(tmp_path, text, problem):
    _touch(tmp_path, "a.svs", "sub/b.svs", "x/same.svs", "y/same.svs")
    with pytest.raises(SettingsError) as caught:
        find_slides(tmp_path, table=_table(tmp_path, text))
    assert problem in caught.value.cause


def test_a_table_that_is_no_text_is_an_error(tmp_path):
    _touch(tmp_path, "a.svs")
    table = tmp_path / "slides.csv"
    table.write_bytes(b"slide\n\xff\xfe\x00\n")
    with pytest.raises(SettingsError, match=r"slides\.csv cannot be read"):
        find_slides(tmp_path, table=table)


def test_further_columns_when_asked_for(tmp_path):
    _touch(tmp_path, "a.svs")
    table = _table(tmp_path, "slide,organ,source\na.svs,lung,\n")
    assert find_slides(tmp_path, table=table, more=("organ", "source"))[0].more == {"organ": "lung"}
    with pytest.raises(SettingsError, match="unknown column 'organ'"):
        find_slides(tmp_path, table=table)
