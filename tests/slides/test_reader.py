"""Opening slides, their resolution, and reading regions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from pixcell_share.errors import MppMissingError, NotBrightfieldError, SlideUnreadableError
from pixcell_share.slides import SlideRecord, find_slides, open_slide, reader
from pixcell_share.slides._mpp import resolve_mpp
from tests.slides.making_slides import opened, texture, write_slide


def _record(path: Path) -> SlideRecord:
    return SlideRecord(path.stem, path)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_real_slides_open_with_their_own_resolution(shared_data):
    found = {}
    for record in find_slides(shared_data / "slides"):
        try:
            with open_slide(record) as slide:
                found[slide.slide_id] = (slide.mpp, slide.mpp_source, slide.width, slide.height)
        except NotBrightfieldError:
            found[record.slide_id] = "fluorescence"
    assert found == {
        "CMU-1-Small-Region": (0.499, "file", 2220, 2967),
        "breast_1008": (0.25, "file", 3584, 2560),
        "breast_1015": (0.25, "file", 4096, 2048),
        "fluorescence_not_HE": "fluorescence",
    }


@pytest.mark.parametrize(
    "property_",
    [
        ("mirax.GENERAL.SLIDE_TYPE", "SLIDE_TYPE_FLUORESCENCE"),
        (
            "dicom.OpticalPathSequence[0].IlluminationTypeCodeSequence[0].CodeMeaning",
            "Epifluorescence illumination",
        ),
    ],
)
def test_a_scanner_that_says_fluorescence_is_believed(property_):
    with pytest.raises(NotBrightfieldError, match="fluorescence"):
        reader._refuse_fluorescence("a.mrxs", dict([property_]))


def test_without_resolution_it_says_what_to_do(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(300, 300), mpp=None)
    with pytest.raises(MppMissingError) as caught:
        opened(path)
    assert "--mpp" in caught.value.remedy
    assert "slides.csv" in caught.value.remedy
    with opened(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source, slide.notes) == (0.25, "given", ())


def test_the_file_wins_over_the_table_and_says_so(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(300, 300), mpp=0.25)
    with opened(path, mpp=0.5) as slide:
        assert slide.mpp == pytest.approx(0.25)
        assert "0.25" in slide.notes[0]
        assert "0.5" in slide.notes[0]
    with opened(path, mpp=0.252) as slide:
        assert slide.notes == ()


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ("352.8", "352.8", "no slide scanner"),
        ("0", "0", "no slide scanner"),
        ("nan", "0.25", "no slide scanner"),
        ("0.25", "0.5", "not square"),
        ("abc", "0.25", "no number"),
        (None, None, "does not say"),
    ],
)
def test_an_implausible_resolution_counts_as_missing(x, y, reason):
    properties = {"openslide.mpp-x": x, "openslide.mpp-y": y, "openslide.objective-power": "40"}
    properties = {key: value for key, value in properties.items() if value is not None}
    with pytest.raises(MppMissingError, match=reason):
        resolve_mpp("a.svs", properties, None)
    assert resolve_mpp("a.svs", properties, 0.3).mpp == 0.3


def test_empty_and_text_files_are_unreadable(tmp_path):
    empty, text = tmp_path / "empty.svs", tmp_path / "text.svs"
    empty.write_bytes(b"")
    text.write_text("patient list, do not share\n")
    with pytest.raises(SlideUnreadableError, match="empty"):
        open_slide(_record(empty))
    with pytest.raises(SlideUnreadableError, match="not a slide"):
        open_slide(_record(text))
    with pytest.raises(SlideUnreadableError, match="cannot be read"):
        open_slide(_record(tmp_path / "gone.svs"))


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "breast_1008.tiff"])
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.7, 0.99])
def test_a_truncated_slide_is_unreadable(shared_data, tmp_path, name, kept):
    data = (shared_data / "slides" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SlideUnreadableError) as caught:
        open_slide(_record(path))
    assert name in caught.value.cause
    assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(300, 300))
    path.chmod(0)
    with pytest.raises(SlideUnreadableError, match="may not be read"):
        open_slide(_record(path))


def test_permission_is_told_apart_from_damage(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "a.tif", texture(300, 300))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SlideUnreadableError, match="may not be read") as caught:
        open_slide(_record(path))
    assert "permission" in caught.value.remedy


def test_label_and_macro_are_never_read(shared_data, monkeypatch):
    def refuse(_: object) -> None:
        raise AssertionError("an associated image was read")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    with open_slide(_record(shared_data / "slides/CMU-1-Small-Region.svs")) as slide:
        assert slide.thumbnail(400).shape == (400, 299, 3)
        assert slide.region(100, 100, 256, 1.0).shape == (256, 256, 3)


def test_a_whole_ratio_is_averaged(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(1100, 1200))
    with opened(path) as slide, openslide.OpenSlide(path) as plain:
        expected = plain.read_region((301, 77), 0, (512, 512)).convert("RGB").reduce(2)
        assert np.array_equal(slide.region(301, 77, 256, 0.5), np.asarray(expected))


def test_the_best_level_is_read(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(1024, 1024), downsamples=(1, 2, 4))
    with opened(path) as slide, openslide.OpenSlide(path) as plain:
        expected = plain.read_region((128, 256), 1, (256, 256)).convert("RGB")
        assert np.array_equal(slide.region(128, 256, 256, 0.5), np.asarray(expected))
        expected = plain.read_region((0, 0), 2, (256, 256)).convert("RGB").reduce(2)
        assert np.array_equal(slide.region(0, 0, 128, 2.0), np.asarray(expected))


@pytest.mark.parametrize("mpp", [0.31, 0.4321, 0.65, 0.9])
def test_a_fractional_ratio_covers_exactly_its_square(tmp_path, mpp):
    """A tile from the middle equals the same square of the whole picture, resized at once."""
    path = write_slide(tmp_path / "a.tif", texture(1400, 1400), quality=95)
    with opened(path) as slide, openslide.OpenSlide(path) as plain:
        whole = plain.read_region((0, 0), 0, (1400, 1400)).convert("RGB")
        size = round(256 * mpp / 0.25)
        box = (203, 310, 203 + size, 310 + size)
        expected = whole.resize((256, 256), Image.Resampling.BICUBIC, box=box)
        assert _difference(slide.region(203, 310, 256, mpp), np.asarray(expected)) < 0.05


def test_nearly_native_slides_are_not_resampled(shared_data):
    path = shared_data / "slides/CMU-1-Small-Region.svs"
    with opened(path) as slide, openslide.OpenSlide(path) as plain:
        expected = plain.read_region((512, 700), 0, (256, 256)).convert("RGB")
        assert np.array_equal(slide.region(512, 700, 256, 0.5), np.asarray(expected))


def test_outside_the_slide_is_white(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(300, 300) // 2)
    with opened(path) as slide:
        tile = slide.region(200, 200, 128, 0.25)
        assert (tile[101:] == 255).all()
        assert (tile[:, 101:] == 255).all()
        assert tile[:99, :99].max() < 140
        assert (slide.region(-1000, 5000, 128, 0.25) == 255).all()


def test_thumbnail_in_strips_is_the_whole_averaged(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "a.tif", texture(1000, 701))
    with opened(path) as slide, openslide.OpenSlide(path) as plain:
        whole = plain.read_region((0, 0), 0, (701, 1000)).convert("RGB")
        expected = np.asarray(whole.resize((210, 300), Image.Resampling.BOX))
        at_once = slide.thumbnail(300)
        monkeypatch.setattr(reader, "_STRIP_PX", 30_000)
        in_strips = slide.thumbnail(300)
    assert _difference(at_once, expected) < 0.02
    assert _difference(in_strips, expected) < 0.02


def test_thumbnail_is_never_enlarged(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(300, 200))
    with opened(path) as slide:
        assert slide.thumbnail(4000).shape == (300, 200, 3)


def test_a_damaged_header_never_ends_in_another_error(tmp_path):
    """Bytes of the TIFF's structure are overwritten at random: it reads, or it says so."""
    good = write_slide(tmp_path / "good.tif", texture(300, 300), downsamples=(1, 2)).read_bytes()
    with tifffile.TiffFile(tmp_path / "good.tif") as tiff:
        structure = [
            start for page in tiff.pages for start in range(page.offset, page.offset + 250)
        ]
    rng = np.random.default_rng(0)
    path, outcomes = tmp_path / "bad.tif", set()
    for _ in range(120):
        data = bytearray(good)
        for at in rng.choice(structure, size=rng.integers(1, 4)):
            data[min(at, len(data) - 1)] = rng.integers(256)
        path.write_bytes(data)
        try:
            with opened(path, mpp=0.25) as slide:
                assert slide.region(0, 0, 128, 0.5).shape == (128, 128, 3)
                outcomes.add("read")
        except SlideUnreadableError:
            outcomes.add("unreadable")
    assert outcomes == {"read", "unreadable"}


def test_stored_tiles_too_large_for_any_memory_are_damage():
    """OpenSlide would end the process on them."""
    properties = {
        "openslide.level[0].tile-width": "1048576",
        "openslide.level[0].tile-height": "65536",
    }
    with pytest.raises(SlideUnreadableError, match="1048576 x 65536 px"):
        reader._refuse_absurd_tiles("a.svs", properties)
    reader._refuse_absurd_tiles("a.ndpi", {"openslide.level[0].tile-width": "3968"})
