"""Tissue on real quality-control pictures, real slides, and what was made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pixcell_share.slides import Tissue, TissueSettings, find_tissue, tissue_from_polygons
from pixcell_share.slides.contours import Polygon, mask_to_polygons, polygons_to_mask
from pixcell_share.slides.ink import ink_mask
from pixcell_share.slides.tissue import tissue_mask
from tests.slides.making_slides import opened

NO_TISSUE = [
    "almost-white-1",
    "almost-white-ihc",
    "no-tissue",
    "no-tissue-green-pen",
    "no-tissue-line",
    "no-tissue-red-pen",
]

# (µm/px to assume, reduction, pixels in the stroke, pixels of tissue beside it), read off by eye
PEN = {
    "tcga-green-pen": (
        0.5,
        8,
        [(385, 20), (340, 200), (270, 350), (240, 580)],
        [(80, 150), (600, 300), (680, 100), (500, 520)],
    ),
    "tcga-red-pen": (
        0.5,
        8,
        [(110, 200), (60, 280), (100, 330)],
        [(300, 300), (400, 150), (420, 380), (300, 200)],
    ),
    "high-nuclei-score-red-pen-level1": (
        0.5,
        8,
        [(255, 40), (280, 190)],
        [(80, 150), (100, 400), (350, 420), (450, 120)],
    ),
    "wsi-blue-pen": (8.0, 1, [(155, 65), (153, 113)], [(106, 23), (90, 72), (15, 75)]),
}


def _picture(path: Path, reduce: int = 1) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").reduce(reduce))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module")
def cmu(shared_data) -> np.ndarray:
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        return slide.thumbnail(370)  # 4 µm/px


@pytest.mark.parametrize("name", NO_TISSUE)
def test_glass_and_pen_alone_are_no_tissue(shared_data, name):
    picture = Image.open(shared_data / "qc" / f"{name}.png").convert("RGB")
    reduce = 8 if min(picture.size) > 100 else 1
    assert not tissue_mask(np.asarray(picture.reduce(reduce)), 4.0).any()


@pytest.mark.parametrize("name", PEN)
def test_pen_is_left_out_and_the_tissue_beside_it_stays(shared_data, name):
    mpp, reduce, stroke, beside = PEN[name]
    picture = _picture(shared_data / "qc" / f"{name}.png", reduce)
    pen = ink_mask(picture, mpp * reduce)
    tissue = tissue_mask(picture, mpp * reduce)
    assert all(pen[y // reduce, x // reduce] for x, y in stroke)
    assert all(tissue[y // reduce, x // reduce] for x, y in beside)
    assert not (pen & tissue).any()


@pytest.mark.parametrize(
    "colour",
    [(25, 25, 28), (20, 40, 150), (30, 110, 60), (190, 20, 35)],
    ids=["black", "blue", "green", "red"],
)
def test_a_stroke_of_any_ink_over_glass_and_tissue_is_found(cmu, colour):
    drawn, stroke = Image.fromarray(cmu), Image.new("1", cmu.shape[1::-1])
    for canvas, fill in ((drawn, colour), (stroke, 1)):
        ImageDraw.Draw(canvas).line([(0, 190), (276, 250)], fill=fill, width=30)
    truth = np.asarray(stroke)
    pen, tissue = ink_mask(np.asarray(drawn), 4.0), tissue_mask(np.asarray(drawn), 4.0)
    assert pen[truth].mean() > 0.97
    assert pen[~truth].mean() < 0.12  # the margin
    assert not tissue[truth].any()
    assert _overlap(tissue & ~pen, tissue_mask(cmu, 4.0) & ~pen) > 0.9


def test_no_stain_is_taken_for_ink(shared_data):
    paths = [
        *sorted((shared_data / "breast_fields" / "images").iterdir()),
        *sorted((shared_data / "lung_tiles").glob("lung_*/*"))[::90],
        *sorted((shared_data / "stain").glob("*.png")),
        shared_data / "qc" / "medium-nuclei-score-level0.png",
    ]
    taken = [path.name for path in paths if ink_mask(_picture(path, 8), 4.0).any()]
    assert len(paths) > 100
    assert taken == []


def test_a_field_without_glass_is_all_tissue(shared_data):
    """Otsu alone would split such a picture into its dark and its pale half."""
    for path in ("stain/histoqc_template1.png", "stain/histoqc_template3.png"):
        assert tissue_mask(_picture(shared_data / path, 8), 4.0).all()
    assert tissue_mask(_picture(shared_data / "qc" / "tcga-lung-rgb.png", 8), 4.0).mean() > 0.95


def test_real_slides(shared_data):
    shares = {}
    for name in ("CMU-1-Small-Region.svs", "breast_1008.tiff", "breast_1015.tiff"):
        with opened(shared_data / "slides" / name) as slide:
            tissue = find_tissue(slide)
            assert tissue.mask.shape[1] / tissue.mask.shape[0] == pytest.approx(
                slide.width / slide.height, rel=0.01
            )
            assert tissue.downsample * slide.mpp == pytest.approx(4.0, rel=0.02)
            total = tissue.fraction + tissue.pen_fraction + tissue.blank_fraction
            assert total == pytest.approx(1)
            shares[name] = tissue.fraction
    assert 0.33 < shares["CMU-1-Small-Region.svs"] < 0.45
    assert shares["breast_1008.tiff"] == shares["breast_1015.tiff"] == 1


@pytest.mark.parametrize("strength", [0.7, 0.5])
def test_pale_stain_gives_the_same_tissue(cmu, strength):
    pale = (255 - (255 - cmu.astype(float)) * strength).astype(np.uint8)
    assert _overlap(tissue_mask(pale, 4.0), tissue_mask(cmu, 4.0)) > 0.9


@pytest.mark.parametrize("glass", [(1, 0.97, 0.93), (0.97, 0.97, 1), (0.8, 0.8, 0.8)])
def test_the_colour_of_the_glass_does_not_matter(cmu, glass):
    tinted = (cmu * np.array(glass)).astype(np.uint8)
    assert _overlap(tissue_mask(tinted, 4.0), tissue_mask(cmu, 4.0)) > 0.95


def test_specks_go_and_small_holes_are_filled():
    picture = np.full((200, 200, 3), 245, dtype=np.uint8)
    stained = (200, 120, 170)
    picture[40:140, 40:140] = stained
    picture[80:90, 80:90] = 245  # 40 x 40 µm: a lumen
    picture[170:180, 170:180] = stained  # 40 x 40 µm: a speck
    mask = tissue_mask(picture, 4.0)
    assert mask[85, 85]
    assert not mask[160:190, 160:190].any()
    larger = tissue_mask(picture, 4.0, TissueSettings(min_area_um2=1000, max_hole_um2=100))
    assert not larger[85, 85]
    assert larger[175, 175]


def test_polygons_describe_the_mask_with_its_holes():
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:50, 10:70] = True
    mask[20:30, 30:50] = False
    mask[52:58, 2:9] = True
    polygons = mask_to_polygons(mask, (8.0, 8.5), tolerance=0.1)
    assert [len(polygon.holes) for polygon in polygons] == [1, 0]
    assert polygons[0].area == pytest.approx((45 * 60 - 200) * 8 * 8.5, rel=0.01)
    assert (polygons[0].outer[0] == polygons[0].outer[-1]).all()
    assert (polygons_to_mask(polygons, mask.shape, (8.0, 8.5)) == mask).all()


def test_a_polygon_at_the_edge_reaches_the_edge():
    (polygon,) = mask_to_polygons(np.ones((100, 200), dtype=bool), (4.0, 4.0))
    assert polygon.outer.min(axis=0).tolist() == pytest.approx([0, 0], abs=2)
    assert polygon.outer.max(axis=0).tolist() == pytest.approx([800, 400], abs=2)


def test_drawn_polygons_become_tissue(shared_data):
    square = np.array([(400, 400), (1200, 400), (1200, 2000), (400, 2000), (400, 400)], float)
    hole = np.array([(600, 600), (900, 600), (900, 900), (600, 900), (600, 600)], float)
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        tissue = tissue_from_polygons([Polygon(square, (hole,))], slide)
    assert isinstance(tissue, Tissue)
    covered = tissue.fraction * slide.width * slide.height
    assert covered == pytest.approx(800 * 1600 - 300 * 300, rel=0.02)
