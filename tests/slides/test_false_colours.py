from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixcell_share.slides import SlideRecord, open_slide
from pixcell_share.slides.false_colours import in_false_colours


def test_no_real_picture_counts_as_false(shared_data: Path) -> None:
    pictures = [
        *sorted((shared_data / "breast_fields" / "images").iterdir()),
        *sorted((shared_data / "nuclei" / "images").iterdir()),
        *(path for kind in sorted((shared_data / "lung_tiles").glob("lung_*"))
          for path in sorted(kind.iterdir())[:100]),
        *sorted((shared_data / "stain").iterdir()),
        *sorted((shared_data / "qc").iterdir()),
    ]  # fmt: skip
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB").reduce(4))
        assert not in_false_colours(pixels), path.name


def test_real_pictures_marked_wrongly_do(shared_data: Path) -> None:
    found = []
    for path in sorted((shared_data / "breast_fields" / "images").iterdir()):
        right = Image.open(path).convert("RGB").reduce(4)
        wrong = Image.frombytes("YCbCr", right.size, right.tobytes()).convert("RGB")
        found.append(in_false_colours(np.asarray(wrong)))
    # Very bright fields clip to one magenta, which says nothing; a whole slide has more to show.
    assert np.mean(found) >= 0.8


def test_flat_and_grey_pictures_do_not() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert not in_false_colours(np.repeat(ramp, 64, axis=0))
    assert not in_false_colours(np.full((64, 64, 3), 243, np.uint8))


def _as_ycbcr(tile: np.ndarray) -> bytes:
    """A JPEG stream of ``tile`` whose components are R, G and B, under a JFIF marker."""
    stream = io.BytesIO()
    components = Image.frombytes("YCbCr", (256, 256), tile.tobytes())
    components.save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


@pytest.fixture
def wrongly_marked(tmp_path: Path, shared_data: Path) -> tuple[SlideRecord, np.ndarray]:
    """A slide whose tiles are RGB though marked YCbCr, and the pixels that it means."""
    field = sorted((shared_data / "breast_fields" / "images").iterdir())[0]
    pixels = np.asarray(Image.open(field).convert("RGB"))[:1024, :1024]
    path = tmp_path / "wrong.tif"
    tifffile.imwrite(
        path,
        (
            _as_ycbcr(pixels[y : y + 256, x : x + 256])
            for y in range(0, 1024, 256)
            for x in range(0, 1024, 256)
        ),
        shape=(1024, 1024, 3),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=(1, 1),
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    return SlideRecord("wrong", path), pixels


def test_it_is_read_as_what_it_is_with_a_note(
    wrongly_marked: tuple[SlideRecord, np.ndarray],
) -> None:
    record, meant = wrongly_marked
    with open_slide(record) as slide:
        assert any("marked YCbCr" in note for note in slide.notes)
        read = slide.square(0, 0, 1024, 1024)
    assert np.abs(read.astype(int) - meant).mean() < 3
    with open_slide(record, inspect=False) as slide:
        assert slide.notes == ()
        assert np.abs(slide.square(0, 0, 1024, 1024).astype(int) - meant).mean() > 40


def test_the_shared_breast_slides_are_mended(shared_data: Path) -> None:
    for name in ("breast_1008", "breast_1015"):
        with open_slide(SlideRecord(name, shared_data / "slides" / f"{name}.tiff")) as slide:
            red, green, blue = slide.thumbnail(512).reshape(-1, 3).mean(axis=0)
            assert any("marked YCbCr" in note for note in slide.notes)
        assert green < red and green < blue, "H&E takes green first"
