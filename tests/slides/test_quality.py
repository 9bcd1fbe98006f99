"""Glass, focus, DS-MIL's edges, and what is not brightfield."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from pixcell_share.errors import NotBrightfieldError
from pixcell_share.slides import SlideRecord, TilingSettings, open_slide
from pixcell_share.slides.grid import reject_reason
from pixcell_share.slides.quality import (
    SHARPNESS_LIMIT,
    edge_strength,
    is_glass,
    require_brightfield,
)
from pixcell_share.slides.quality import (
    sharpness as picture_sharpness,
)


def _picture(path: Path, reduce: int = 1) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").reduce(reduce))


def sharpness(tile: np.ndarray, mpp: float) -> float:
    return picture_sharpness(Image.fromarray(tile), mpp)


def _tiles(picture: np.ndarray, side: int = 256) -> list[np.ndarray]:
    height, width, _ = picture.shape
    return [
        picture[y : y + side, x : x + side]
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]


@pytest.fixture(scope="module")
def tissue_tiles(shared_data) -> list[np.ndarray]:
    """Real H&E at about 0.5 µm/px, in focus."""
    fields = sorted((shared_data / "breast_fields" / "images").iterdir())[:15]
    tiles = [tile for path in fields for tile in _tiles(_picture(path, 2))]
    tiles += [_picture(path) for path in sorted((shared_data / "lung_tiles").glob("*/*"))[::400]]
    return [*tiles, _picture(shared_data / "stain" / "histoqc_template1.png")[:256, :256]]


@pytest.mark.parametrize("side", [64, 224, 256])
def test_edge_strength_is_the_papers(side):
    rng = np.random.default_rng(side)
    for tile in (
        rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        rng.integers(180, 200, (side, side, 3), dtype=np.uint8),
        np.full((side, side, 3), 255, dtype=np.uint8),
    ):
        edges = np.asarray(Image.fromarray(tile).filter(ImageFilter.FIND_EDGES))
        paper = np.mean([edges[..., channel].sum() / side**2 for channel in range(3)])
        assert edge_strength(tile) == pytest.approx(paper, abs=1e-9)


def test_edges_tell_tissue_from_glass(shared_data):
    tissue = _picture(shared_data / "stain" / "histoqc_template1.png")[:256, :256]
    assert edge_strength(tissue) > 15
    for name in ("almost-white-1", "no-tissue", "no-tissue-line", "no-tissue-green-pen"):
        for tile in _tiles(_picture(shared_data / "qc" / f"{name}.png")):
            assert edge_strength(tile) < 15


def test_focus(tissue_tiles):
    """Each real tile is in focus; each, blurred with sigma 4 px (2 µm), is not."""
    blurred = [ndimage.gaussian_filter(tile, (4, 4, 0)) for tile in tissue_tiles]
    assert len(tissue_tiles) > 80
    assert min(sharpness(tile, 0.5) for tile in tissue_tiles) > SHARPNESS_LIMIT
    assert max(sharpness(tile, 0.5) for tile in blurred) < SHARPNESS_LIMIT


def test_focus_does_not_depend_on_the_stain_or_the_tile_size(tissue_tiles):
    tile = tissue_tiles[0]
    pale = (255 - (255 - tile.astype(float)) * 0.5).astype(np.uint8)
    assert sharpness(pale, 0.5) == pytest.approx(sharpness(tile, 0.5), rel=0.1)
    twice = np.asarray(Image.fromarray(tile).resize((512, 512), Image.Resampling.BICUBIC))
    assert sharpness(twice, 0.25) == pytest.approx(sharpness(tile, 0.5), rel=0.1)


def test_reasons_for_leaving_a_tile_out(shared_data, tissue_tiles):
    settings = TilingSettings()
    tissue = next(tile for tile in tissue_tiles if edge_strength(tile) > 25)
    faint = (0.25 * tissue + 0.75 * tissue.mean(axis=(0, 1))).astype(np.uint8)
    red_pen = _picture(shared_data / "qc" / "tcga-red-pen.png")[180:436, :256]
    assert reject_reason(tissue, settings) is None
    assert reject_reason(np.full((256, 256, 3), 243, np.uint8), settings) == "blank"
    assert reject_reason(red_pen, settings) == "pen"
    assert reject_reason(ndimage.gaussian_filter(tissue, (4, 4, 0)), settings) == "blurred"
    assert reject_reason(faint, settings) == "few_edges"
    assert reject_reason(faint, TilingSettings(edge_threshold=0)) is None


def test_glass_is_bright_and_colourless():
    pixels = np.array([[[243, 242, 244], [240, 200, 225], [150, 150, 150]]], dtype=np.uint8)
    assert is_glass(pixels).tolist() == [[True, False, False]]


def test_every_stained_picture_is_brightfield(shared_data):
    paths = [
        *shared_data.glob("breast_fields/images/*"),
        *shared_data.glob("nuclei/images/*"),
        *shared_data.glob("qc/*.png"),
        *shared_data.glob("stain/*.png"),
        *sorted(shared_data.glob("lung_tiles/*/*"))[::60],
    ]
    assert len(paths) > 250
    for path in paths:
        require_brightfield(_picture(path, 2), path.name)


def test_the_fluorescence_slide_is_refused(shared_data):
    path = shared_data / "slides" / "fluorescence_not_HE.ndpi"
    with pytest.raises(NotBrightfieldError, match=r"fluorescence_not_HE.*dark"):
        open_slide(SlideRecord(path.stem, path))


def _negative(tissue: np.ndarray) -> np.ndarray:
    return 255 - tissue


def _single_dye(tissue: np.ndarray) -> np.ndarray:
    """A confluent culture in one dye: no dark ground to see."""
    grey = 255 - tissue[..., 1]
    return np.stack([0 * grey, np.maximum(grey, 60), 0 * grey], axis=-1)


def _unlit(tissue: np.ndarray) -> np.ndarray:
    return tissue // 3


@pytest.mark.parametrize("spoil", [_negative, _single_dye, _unlit])
def test_what_light_through_a_section_cannot_be_is_refused(shared_data, spoil):
    tissue = _picture(shared_data / "stain" / "histoqc_template1.png")
    with pytest.raises(NotBrightfieldError):
        require_brightfield(spoil(tissue), "spoilt")


def test_black_unscanned_borders_are_no_dark_ground(shared_data):
    field = _picture(shared_data / "qc" / "tcga-lung-rgb.png")
    canvas = np.zeros((900, 900, 3), dtype=np.uint8)
    canvas[100:612, 200:712] = field
    require_brightfield(canvas, "mosaic")
