"""The overview picture: what is faded, what is framed, and where the outline runs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixcell_share.slides import TileGrid, Tissue, find_tissue, lay_grid, write_thumbnail
from pixcell_share.slides.contours import mask_to_polygons
from pixcell_share.slides.thumbnail import draw_overview
from tests.slides.making_slides import opened


@pytest.fixture
def laid() -> tuple[np.ndarray, Tissue, TileGrid]:
    """A grey slide of 1600 x 800 px, tissue in its left half, two tiles."""
    mask = np.zeros((50, 100), dtype=bool)
    mask[:, :50] = True
    tissue = Tissue(
        mask=mask, width=1600, height=800, polygons=mask_to_polygons(mask, (16.0, 16.0))
    )
    coords = np.array([[0, 0], [400, 400]], dtype=np.int64)
    grid = TileGrid("grey", coords, 100, 400, 1.0, 0.25, 1600, 800)
    return np.full((200, 400, 3), 100, dtype=np.uint8), tissue, grid


def test_tiles_are_clear_and_framed_and_the_rest_is_faded(laid):
    picture = np.asarray(draw_overview(*laid))
    assert picture.shape == (200, 400, 3)
    assert (picture[50, 50] == 100).all()  # in the first tile
    assert (picture[150, 150] == 100).all()  # in the second
    assert (picture[150, 50] > 150).all()  # tissue, not a tile
    assert (picture[50, 350] > 150).all()  # glass
    blue = picture[50, 100]
    assert blue[2] > blue[0] + 100
    outline = picture[20:60, 198:202].reshape(-1, 3).astype(int)
    assert (outline[:, 1] - outline[:, 0]).max() > 100  # green, at the tissue's right border


def test_tiny_tiles_get_no_frames(laid):
    thumbnail, tissue, grid = laid
    picture = np.asarray(draw_overview(thumbnail[::50, ::50], tissue, grid))
    assert not (picture[..., 2].astype(int) > picture[..., 0].astype(int) + 100).any()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_real_slide(tmp_path, shared_data, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        tissue = find_tissue(slide)
        grid = lay_grid(slide, tissue)
        for path in paths:
            write_thumbnail(path, slide, tissue, grid, max_px=600)
    with Image.open(paths[0]) as picture:
        assert picture.format == {".png": "PNG", ".jpg": "JPEG"}[suffix]
        assert max(picture.size) == 600
        assert not picture.getexif()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]
