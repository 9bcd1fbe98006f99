"""The grid: its geometry, what is left out of it, and that the counts add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pixcell_share.errors import NoTissueError, SettingsError, SlideError
from pixcell_share.slides import (
    GridReport,
    Slide,
    SlideRecord,
    SurveyedGrid,
    TilingSettings,
    Tissue,
    find_tissue,
    lay_grid,
    open_slide,
    read_tiles,
)
from pixcell_share.slides.quality import edge_strength
from tests.slides.making_slides import opened, write_slide

MASK_ONLY = {"edge_threshold": 0.0, "max_glass": 1.0, "max_pen": 1.0, "min_sharpness": 0.0}


def _tissue(slide: Slide, mask: np.ndarray) -> Tissue:
    return Tissue(mask=mask, width=slide.width, height=slide.height, polygons=())


def _all_tissue(slide: Slide) -> Tissue:
    return _tissue(slide, np.ones((max(1, slide.height // 16), max(1, slide.width // 16)), bool))


def _reconciles(report: GridReport) -> bool:
    counts = report.as_dict()
    return counts.pop("candidates") == sum(counts.values())


@pytest.fixture(scope="module")
def field(shared_data) -> np.ndarray:
    """Real H&E in focus, about 0.25 µm/px, 1024 x 1280."""
    path = shared_data / "breast_fields" / "images" / "10012.jpg"
    return np.asarray(Image.open(path).convert("RGB"))[:1024, :1280]


@pytest.fixture
def slide_of(tmp_path):
    def write(picture: np.ndarray, mpp: float = 0.25) -> Path:
        return write_slide(tmp_path / "made.tiff", picture, mpp=mpp, quality=95)

    return write


def test_tiles_are_row_major_from_the_corner_and_whole(slide_of, field):
    with opened(slide_of(field)) as slide:
        grid = lay_grid(slide, _all_tissue(slide), TilingSettings(tile_px=128, **MASK_ONLY))
    rows = [(x, y) for y in (0, 256, 512, 768) for x in (0, 256, 512, 768, 1024)]
    assert grid.coords.tolist() == [list(corner) for corner in rows]
    assert grid.coords.dtype == np.int64
    assert (grid.tile_px_level0, grid.tile_px) == (256, 128)


def test_tiles_that_reach_beyond_the_slide_are_no_candidates(slide_of, field):
    with opened(slide_of(field[:1000, :1279])) as slide:
        grid = lay_grid(slide, _all_tissue(slide), TilingSettings(tile_px=128, **MASK_ONLY))
    assert grid.report.candidates == len(grid) == 3 * 4
    assert (grid.coords + grid.tile_px_level0 <= (1279, 1000)).all()


def test_overlap_shortens_the_step(slide_of, field):
    settings = TilingSettings(tile_px=128, overlap_px=32, **MASK_ONLY)
    with opened(slide_of(field)) as slide:
        grid = lay_grid(slide, _all_tissue(slide), settings)
    assert np.unique(grid.coords[:, 0]).tolist() == [0, 192, 384, 576, 768, 960]
    assert grid.attributes["overlap"] == 32


@pytest.mark.parametrize("shape", [(64, 80), (37, 51), (5, 7)])
@pytest.mark.parametrize("least", [0.0, 0.3, 0.5, 0.8])
def test_the_share_of_tissue_is_exact(slide_of, field, shape, least):
    """Against the mask enlarged to level 0 and averaged over each tile."""
    mask = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(shape), 3) > 0
    with opened(slide_of(field)) as slide:
        rows = (np.arange(1024) + 0.5) * shape[0] / 1024
        columns = (np.arange(1280) + 0.5) * shape[1] / 1280
        level0 = mask[np.ix_(rows.astype(int), columns.astype(int))]
        share = level0.reshape(4, 256, 5, 256).mean(axis=(1, 3)).ravel()
        settings = TilingSettings(tile_px=128, min_tissue=least, **MASK_ONLY)
        kept = lay_grid(slide, _tissue(slide, mask), settings).coords.tolist()
    corners = [[x, y] for y in range(0, 1024, 256) for x in range(0, 1280, 256)]
    clear = np.abs(share - least) > 0.01  # level-0 pixels are a coarse ruler
    for corner, value in zip(np.array(corners)[clear].tolist(), share[clear], strict=True):
        assert (corner in kept) == (value >= least and value > 0)


def test_real_slides(shared_data):
    kept = {}
    for name in ("CMU-1-Small-Region.svs", "breast_1008.tiff", "breast_1015.tiff"):
        # As a run opens them: the breast slides' false colours are mended.
        with open_slide(SlideRecord(name, shared_data / "slides" / name)) as slide:
            grid = lay_grid(slide, find_tissue(slide))
            assert isinstance(grid, SurveyedGrid)
            assert _reconciles(grid.report)
            assert grid.report.kept == len(grid) == len({*map(tuple, grid.coords.tolist())})
            for tile in read_tiles(slide, grid):
                assert edge_strength(tile) > 15
            kept[name] = len(grid)
    assert kept["breast_1008.tiff"] == 7 * 5
    assert kept["breast_1015.tiff"] == 26
    assert 30 <= kept["CMU-1-Small-Region.svs"] <= 45


def test_the_attributes_are_tridents(shared_data):
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        attributes = lay_grid(slide, find_tissue(slide)).attributes
    expected = {
        "patch_size": 256,
        "patch_size_level0": 256,
        "level0_magnification": 20,
        "target_magnification": 20,
        "overlap": 0,
        "name": "CMU-1-Small-Region",
        "savetodir": ".",
        "level0_width": 2220,
        "level0_height": 2967,
    }
    assert {key: attributes[key] for key in expected} == expected


def test_the_half_out_of_focus_is_left_out(slide_of, field):
    spoilt = field.copy()
    spoilt[:, 768:] = ndimage.gaussian_filter(field[:, 768:], (8, 8, 0))  # 2 µm
    settings = TilingSettings(tile_px=128, edge_threshold=0)
    with opened(slide_of(spoilt)) as slide:
        grid = lay_grid(slide, _all_tissue(slide), settings)
    with opened(slide_of(field)) as slide:
        whole = lay_grid(slide, _all_tissue(slide), settings)
    assert whole.report == GridReport(candidates=20, kept=20)
    assert grid.report == GridReport(candidates=20, kept=12, blurred=8)
    assert grid.coords[:, 0].max() < 768


def test_glass_inside_an_outline_is_left_out(slide_of, field):
    """A person's outline may be generous; the pixels decide."""
    spoilt = field.copy()
    spoilt[256:512, 512:1024] = 243
    with opened(slide_of(spoilt)) as slide:
        settings = TilingSettings(tile_px=128, edge_threshold=0)
        grid = lay_grid(slide, _all_tissue(slide), settings)
    assert grid.report == GridReport(candidates=20, kept=18, blank=2)
    assert [512, 256] not in grid.coords.tolist()


@pytest.mark.parametrize("outlined", [False, True], ids=["by the mask", "by the pixels"])
@pytest.mark.parametrize(
    ("name", "stroke", "beside"),
    [
        ("tcga-green-pen", [(385, 20), (340, 200), (270, 350)], [(80, 150), (600, 300)]),
        ("tcga-red-pen", [(110, 200), (60, 280)], [(300, 300), (300, 200)]),
        ("high-nuclei-score-red-pen-level1", [(255, 40), (280, 190)], [(80, 150), (350, 420)]),
    ],
)
def test_pen_does_not_become_tiles(shared_data, slide_of, name, stroke, beside, outlined):
    picture = Image.open(shared_data / "qc" / f"{name}.png").convert("RGB")
    with opened(slide_of(np.asarray(picture), mpp=0.5)) as slide:
        tissue = _all_tissue(slide) if outlined else find_tissue(slide)
        grid = lay_grid(slide, tissue, TilingSettings(tile_px=128))
    tiles = {(x // 128, y // 128) for x, y in grid.coords.tolist()}
    assert not tiles & {(x // 128, y // 128) for x, y in stroke}
    assert tiles >= {(x // 128, y // 128) for x, y in beside}
    assert _reconciles(grid.report)


@pytest.mark.parametrize(
    "name",
    ["almost-white-1", "no-tissue", "no-tissue-green-pen", "no-tissue-line", "no-tissue-red-pen"],
)
@pytest.mark.parametrize("outlined", [False, True], ids=["by the mask", "by the pixels"])
def test_a_slide_without_tissue_has_no_tiles(shared_data, slide_of, name, outlined):
    picture = Image.open(shared_data / "qc" / f"{name}.png").convert("RGB")
    with opened(slide_of(np.asarray(picture), mpp=0.5)) as slide:
        tissue = _all_tissue(slide) if outlined else find_tissue(slide)
        with pytest.raises(NoTissueError, match=r"made.*16 candidates") as caught:
            lay_grid(slide, tissue, TilingSettings(tile_px=128))
    assert "0 kept" not in caught.value.cause
    assert caught.value.remedy


def test_lung_and_its_air_stay(shared_data, slide_of):
    picture = Image.open(shared_data / "qc" / "tcga-lung-rgb.png").convert("RGB")
    with opened(slide_of(np.asarray(picture), mpp=0.25)) as slide:
        settings = TilingSettings(tile_px=128, edge_threshold=10)
        assert len(lay_grid(slide, find_tissue(slide), settings)) == 4


def test_a_slide_smaller_than_a_tile(slide_of, field):
    with (
        opened(slide_of(field[:300, :300])) as slide,
        pytest.raises(NoTissueError, match="smaller than one tile"),
    ):
        lay_grid(slide, _all_tissue(slide))


def test_a_slide_that_is_too_coarse(slide_of, field):
    with opened(slide_of(field, mpp=1.0)) as slide:
        with pytest.raises(SlideError, match=r"scanned at 1 µm/px"):
            lay_grid(slide, _all_tissue(slide))
        assert len(lay_grid(slide, _all_tissue(slide), TilingSettings(mpp=1.0, **MASK_ONLY))) == 20


@pytest.mark.parametrize(
    "wrong",
    [{"tile_px": 8}, {"mpp": 0}, {"overlap_px": 256}, {"overlap_px": -1}, {"min_tissue": 2}],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError):
        TilingSettings(**wrong)
