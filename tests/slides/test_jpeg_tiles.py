"""The fast path agrees with OpenSlide, and gives way where it cannot read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from pixcell_share.errors import SlideUnreadableError
from pixcell_share.slides import read_tiles
from pixcell_share.slides._pyramid import Window
from pixcell_share.slides._tile_cache import TileCache
from pixcell_share.slides.jpeg_tiles import JpegTiles
from pixcell_share.slides.reader import CACHE_BYTES, Slide
from tests.slides.making_slides import full_grid, opened, texture, write_slide

REAL = ["CMU-1-Small-Region.svs", "breast_1008.tiff", "breast_1015.tiff"]


def _fast(slide: Slide) -> JpegTiles:
    assert slide.jpeg_tiles is not None, slide.no_jpeg_tiles
    return slide.jpeg_tiles


def _usual_loop(slide: Slide, x: int, y: int, size: int, tile_px: int) -> np.ndarray:
    """What pipelines do: a region of level 0, resized by Pillow's default filter."""
    with openslide.OpenSlide(slide.path) as plain:
        region = plain.read_region((x, y), 0, (size, size)).convert("RGB")
    return np.asarray(region.resize((tile_px, tile_px)))


def _mean_difference(slide: Slide, tile_px: int, mpp: float) -> float:
    """Ours against the usual loop over all tiles that lie on the slide."""
    grid = full_grid(slide, tile_px, mpp)
    size = grid.tile_px_level0
    inside = (grid.coords + size <= (slide.width, slide.height)).all(axis=1)
    tiles = read_tiles(slide, grid, reader="jpeg")
    return float(
        np.mean(
            [
                np.abs(
                    tile.astype(float) - _usual_loop(slide, int(x), int(y), size, tile_px)
                ).mean()
                for tile, (x, y), whole in zip(tiles, grid.coords, inside, strict=True)
                if whole
            ]
        )
    )


@pytest.mark.parametrize("name", REAL)
def test_every_level_of_a_real_slide_equals_openslide(shared_data, name):
    with opened(shared_data / "slides" / name) as slide:
        for index, level in enumerate(slide.levels):
            window = Window(index, 1, -7, -5, level.width + 20, level.height + 20)
            assert np.array_equal(_fast(slide).read_window(window), slide.read_window(window))


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
@pytest.mark.parametrize("tile", [256, 240])
def test_a_made_pyramid_equals_openslide(tmp_path, subsampling, tile):
    path = write_slide(
        tmp_path / "a.tif",
        texture(700, 901),
        downsamples=(1, 4),
        tile=tile,
        subsampling=subsampling,
    )
    with opened(path) as slide:
        for index, level in enumerate(slide.levels):
            window = Window(index, 1, -7, -5, level.width + 20, level.height + 20)
            assert np.array_equal(_fast(slide).read_window(window), slide.read_window(window))


def test_tables_kept_apart_and_rgb_without_a_marker_are_understood(shared_data):
    """CMU-1 has both; this pins that the test above covers them."""
    with tifffile.TiffFile(shared_data / "slides" / REAL[0]) as tiff:
        page = tiff.pages[0]
        assert page.jpegtables
        assert page.photometric == tifffile.PHOTOMETRIC.RGB
        tiff.filehandle.seek(page.dataoffsets[0])
        start = tiff.filehandle.read(4)
    assert start[2:4] == b"\xff\xc0"  # neither tables nor a colour marker in the tile itself


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
def test_half_scale_is_within_a_grey_level_of_the_usual_loop(tmp_path, subsampling):
    """On a made 40x slide. Not exact: chroma is not blurred by being enlarged first, clipping
    comes after averaging, and Pillow's default filter is bicubic."""
    path = write_slide(tmp_path / "a.tif", texture(1536, 1536), quality=70, subsampling=subsampling)
    with opened(path) as slide:
        assert _mean_difference(slide, 256, 0.5) <= 1.0
        assert _fast(slide).decoded_tiles > 0


def test_half_scale_on_a_real_scan_is_within_a_grey_level_of_the_usual_loop(shared_data):
    with opened(shared_data / "slides" / REAL[0]) as slide:
        assert _mean_difference(slide, 256, 1.0) <= 1.0


@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_shrinking_while_decoding_is_averaging(shared_data, shrink):
    """libjpeg-turbo's reduced transforms give block averages, up to rounding and clipping."""
    with opened(shared_data / "slides" / REAL[0]) as slide:
        small = _fast(slide).read_window(Window(0, shrink, 10, 20, 100, 90))
        large = slide.read_window(Window(0, 1, 10 * shrink, 20 * shrink, 100 * shrink, 90 * shrink))
    averages = large.reshape(90, shrink, 100, shrink, 3).mean(axis=(1, 3))
    assert np.abs(small - averages).mean() < 0.5


@pytest.mark.parametrize("shift", [1, 100, 255])
def test_tiles_off_the_stored_grid_and_over_the_edge_agree(tmp_path, shift):
    path = write_slide(tmp_path / "a.tif", texture(1300, 1111))
    with opened(path) as slide:
        grid = full_grid(slide, shift=shift)
        ours = list(read_tiles(slide, grid, reader="jpeg"))
        reference = list(read_tiles(slide, grid, reader="openslide"))
        size = grid.tile_px_level0
        whole = (grid.coords + size <= (slide.width, slide.height)).all(axis=1)
    for tile, expected, inside in zip(ours, reference, whole, strict=True):
        difference = np.abs(tile.astype(int) - expected)
        # An odd corner, or a tile over the edge, is decoded at full size: the pixels are equal.
        assert difference.max() == 0 if shift % 2 or not inside else difference.mean() < 1.0


@pytest.mark.parametrize("mpp", [0.3, 0.507, 1.3])
def test_fractional_ratios_agree(tmp_path, mpp):
    path = write_slide(tmp_path / "a.tif", texture(1300, 1300))
    with opened(path) as slide:
        grid = full_grid(slide, mpp=mpp)
        ours = read_tiles(slide, grid, reader="jpeg")
        reference = read_tiles(slide, grid, reader="openslide")
        for tile, expected in zip(ours, reference, strict=True):
            assert np.abs(tile.astype(float) - expected).mean() < 1.0


def test_each_stored_tile_is_decoded_once(tmp_path):
    """Reading row by row, off the stored grid, so that four tiles share each stored one."""
    path = write_slide(tmp_path / "a.tif", texture(1280, 1280))
    with opened(path) as slide:
        before = _fast(slide).decoded_tiles
        for _ in read_tiles(slide, full_grid(slide, shift=100)):
            pass
        at_both_scales = 2 * 25  # tiles over the edge are decoded at full size
        assert 25 <= _fast(slide).decoded_tiles - before <= at_both_scales


def test_tiles_that_the_scanner_left_out_are_white(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(768, 768) // 2)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        for name in ("TileOffsets", "TileByteCounts"):
            values = list(page.tags[name].value)
            values[4] = 0
            page.tags[name].overwrite(values)
    with opened(path) as slide:
        window = Window(0, 1, 0, 0, 768, 768)
        ours = _fast(slide).read_window(window)
        assert (ours[256:512, 256:512] == 255).all()
        assert ours[:256].max() < 200
        assert np.array_equal(ours, slide.read_window(window))


def _damage(path: Path, tile: int) -> None:
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[tile]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(200))


@pytest.mark.parametrize("reader", ["auto", "jpeg", "openslide"])
def test_damage_in_the_middle_is_found_when_it_is_read(tmp_path, reader):
    path = write_slide(tmp_path / "a.tif", texture(768, 768))
    _damage(path, 4)
    with opened(path) as slide:
        tiles = read_tiles(slide, full_grid(slide, mpp=0.25), reader=reader)
        for _ in range(4):
            next(tiles)
        with pytest.raises(SlideUnreadableError, match=r"a\.tif is damaged"):
            next(tiles)


def test_a_header_that_asks_for_gigabytes_is_damage(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(512, 512))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tiff.filehandle.seek(page.dataoffsets[3])
        stream = tiff.filehandle.read(page.databytecounts[3])
        at = page.dataoffsets[3] + stream.index(b"\xff\xc0") + 5
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff\x00\xff\x00")
    with opened(path) as slide, pytest.raises(SlideUnreadableError, match="65280 x 65280 px"):
        list(read_tiles(slide, full_grid(slide)))


@pytest.mark.parametrize("reader", ["auto", "jpeg", "openslide"])
def test_a_stored_tile_that_ends_half_way_is_found(tmp_path, reader):
    path = write_slide(tmp_path / "a.tif", texture(256, 256))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        middle = page.dataoffsets[0] + page.databytecounts[0] // 2
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(b"\xff\xd9")
    with opened(path) as slide, pytest.raises(SlideUnreadableError, match="damaged"):
        next(read_tiles(slide, full_grid(slide, mpp=0.25), reader=reader))


def _write_other_compression(path: Path, compression: str) -> None:
    kind: dict[str, Any] = {"compression": compression}
    if compression == "aperio jpeg 2000":
        pytest.importorskip("imagecodecs", reason="writes JPEG 2000")
        about = "Aperio Image Library v1\n600x600 (256x256) J2K|AppMag = 40|MPP = 0.25"
        kind = {"compression": 33005, "description": about}
    tifffile.imwrite(
        path,
        texture(600, 600),
        tile=(256, 256),
        photometric="rgb",
        resolution=(40000, 40000),
        resolutionunit=3,
        metadata=None,
        **kind,
    )


@pytest.mark.parametrize("compression", ["deflate", "aperio jpeg 2000"])
def test_other_compressions_are_left_to_openslide(tmp_path, compression):
    path = tmp_path / "a.tif"
    _write_other_compression(path, compression)
    with opened(path) as slide:
        assert slide.jpeg_tiles is None
        grid = full_grid(slide)
        auto, plain = read_tiles(slide, grid), read_tiles(slide, grid, reader="openslide")
        assert all(np.array_equal(a, b) for a, b in zip(auto, plain, strict=True))
        with pytest.raises(SlideUnreadableError, match="not JPEG"):
            read_tiles(slide, grid, reader="jpeg")


def test_a_hamamatsu_slide_is_left_to_openslide(shared_data):
    with opened(shared_data / "slides/fluorescence_not_HE.ndpi") as slide:
        assert "hamamatsu" in slide.no_jpeg_tiles


def test_the_file_is_closed_with_the_slide(shared_data, tmp_path):
    path = tmp_path / REAL[0]
    shutil.copyfile(shared_data / "slides" / REAL[0], path)
    with opened(path) as slide:
        fast = _fast(slide)
        fast.read_window(Window(0, 1, 0, 0, 10, 10))
    with pytest.raises(SlideUnreadableError, match="Bad file descriptor"):
        fast.read_window(Window(0, 1, 0, 0, 10, 10))


def test_the_cache_keeps_what_was_used_last():
    cache = TileCache(3 * 300)
    tiles = {name: np.zeros((10, 10, 3), np.uint8) for name in "abcd"}
    for name in "abc":
        cache.put(name, tiles[name])
    assert cache.get("a") is tiles["a"]
    cache.put("d", tiles["d"])
    assert cache.get("b") is None
    assert cache.get("a") is tiles["a"]
    assert cache.bytes == 900 <= CACHE_BYTES
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
