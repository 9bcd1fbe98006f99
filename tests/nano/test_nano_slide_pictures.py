"""Whole slides as pictures: stained ones only, at half a micrometre, mended and read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixcell_share.nano.slide_pictures import slide_pictures


def test_the_stained_slides_are_read_and_the_fluorescence_is_not(
    shared_data: Path, tmp_path: Path
) -> None:
    pictures = slide_pictures(shared_data / "slides", tmp_path)
    sizes = sorted(picture.shape[:2] for picture in pictures)
    assert sizes == [(1024, 2048), (1280, 1792), (2961, 2216)]
    # Stained tissue is redder than green; a magenta-and-green mix-up is not on average.
    assert all(picture[..., 0].mean() > picture[..., 1].mean() for picture in pictures)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = slide_pictures(shared_data / "slides", tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(again[0], pictures[0])


def test_no_folder_gives_no_pictures(tmp_path: Path) -> None:
    assert slide_pictures(tmp_path / "none", tmp_path) == ()
