"""The drawn slides: they open like a scanner's, look like H&E to our rules, and repeat exactly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image
from skimage.color import rgb2hed

from pixcell_share.errors import SettingsError
from pixcell_share.slides import (
    demo_tiles,
    draw_demo_slides,
    draw_demo_tiles,
    find_slides,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)

SMALL = (640, 768)
"""A sixteenth of the area, where only the bytes matter."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    draw_demo_slides(folder)
    return folder


@pytest.mark.slow
def test_they_open_like_a_scanners_slides(demo):
    paths = sorted(demo.glob("*.tiff"))
    assert len(paths) == 3
    for path in paths:
        assert path.stat().st_size < 8e6
        with openslide.OpenSlide(path) as slide:
            assert slide.level_downsamples == (1, 4, 16)
            assert float(slide.properties["openslide.mpp-x"]) == 0.25
            assert float(slide.properties["openslide.mpp-y"]) == 0.25
            assert 4000 < min(slide.dimensions) < max(slide.dimensions) < 6500
            assert not slide.associated_images
            macro = np.asarray(slide.read_region((0, 0), 2, slide.level_dimensions[2]))[..., :3]
        assert (macro[0, 0] > 230).all()  # glass at the corner


@pytest.mark.slow
def test_the_table_names_case_and_label(demo):
    records = find_slides(demo, table=demo / "slides.csv")
    assert [record.label for record in records] == ["gland", "tumour", "stroma"]
    assert len({record.case_id for record in records}) == 3


@pytest.mark.slow
def test_our_own_rules_take_them_for_tissue_in_focus(demo):
    colours, chromatin = [], {}
    for record in find_slides(demo, table=demo / "slides.csv"):
        with open_slide(record) as slide:  # checks brightfield
            assert slide.jpeg_tiles is not None
            tissue = find_tissue(slide)
            grid = lay_grid(slide, tissue)
            tiles = np.stack(list(read_tiles(slide, grid, 0, None))[::6])
        assert 0.5 < tissue.fraction < 0.85
        assert tissue.pen_fraction == 0
        assert grid.report.kept > 70
        assert (grid.report.pen, grid.report.blurred) == (0, 0)
        assert grid.report.few_edges <= 0.06 * grid.report.kept
        colours.append(tiles.mean(axis=(0, 1, 2)))
        chromatin[record.label] = float(np.mean(rgb2hed(tiles)[..., 0]))
    assert chromatin["tumour"] > 1.1 * max(chromatin["gland"], chromatin["stroma"])
    assert min(np.abs(a - b).max() for a, b in pairwise(colours)) > 4


@pytest.mark.slow
def test_their_colours_are_those_of_real_sections(demo, shared_data):
    """Optical density in red and blue, as a share of that in green, lies among real H&E's."""

    def shares(picture: np.ndarray) -> np.ndarray:
        density = -np.log10(np.maximum(picture, 1) / 255).mean(axis=(0, 1))
        return density[[0, 2]] / density[1]

    paths = [
        *(shared_data / "breast_fields" / "images").iterdir(),
        *(shared_data / "stain").glob("histoqc*.png"),
        shared_data / "qc" / "tcga-lung-rgb.png",
    ]
    real = np.array([shares(np.asarray(Image.open(path).convert("RGB"))) for path in paths])
    for record in find_slides(demo):
        with open_slide(record) as slide:
            grid = lay_grid(slide, find_tissue(slide))
            drawn = np.mean([shares(tile) for tile in read_tiles(slide, grid, 0, 40)], axis=0)
        assert (real.min(axis=0) < drawn).all()
        assert (drawn < real.max(axis=0)).all()


def test_a_seed_gives_its_bytes(tmp_path):
    folders = [tmp_path / name for name in ("one", "again", "other")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        draw_demo_slides(folder, count=1, seed=seed, canvas=SMALL)
    one, again, other = ((folder / "phantom_01.tiff").read_bytes() for folder in folders)
    assert one == again
    assert one != other
    assert (folders[0] / "slides.csv").read_bytes() == (folders[1] / "slides.csv").read_bytes()


def test_more_slides_repeat_the_labels_and_leave_the_first_ones_alone(tmp_path):
    paths = draw_demo_slides(tmp_path / "four", count=4, canvas=SMALL)
    assert [path.name for path in paths] == [
        f"phantom_{number:02d}.tiff" for number in (1, 2, 3, 4)
    ]
    table = (tmp_path / "four" / "slides.csv").read_text().splitlines()
    assert table[0] == "slide,case_id,label"
    assert table[4] == "phantom_04.tiff,phantom-case-04,gland"
    (alone,) = draw_demo_slides(tmp_path / "one", count=1, canvas=SMALL)
    assert alone.read_bytes() == paths[0].read_bytes()


def test_tiles_to_evaluate_on_have_every_class_in_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_tiles, "_CANVAS", (448, 512))
    written = draw_demo_tiles(tmp_path / "tiles")
    paths = sorted((tmp_path / "tiles").glob("*/*/*.png"))
    assert len(paths) == written
    places = {path.relative_to(tmp_path / "tiles").parts[:2] for path in paths}
    classes = ("gland", "tumour", "stroma")
    assert places == {(part, name) for part in ("train", "val", "test") for name in classes}
    with Image.open(paths[0]) as picture:
        assert (picture.size, picture.mode) == ((256, 256), "RGB")
    with pytest.raises(SettingsError, match="exists already"):
        draw_demo_tiles(tmp_path / "tiles")
    assert [path.name for path in tmp_path.iterdir()] == ["tiles"]
