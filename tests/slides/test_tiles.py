"""Reading the tiles of a grid: order, laziness, memory."""

from __future__ import annotations

import importlib.util
import itertools
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pixcell_share.slides import read_tiles, reader
from tests.slides.making_slides import full_grid, opened, texture, write_slide

MIB = 2**20


@pytest.fixture(scope="module")
def large_slide_maker() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "_large_slide.py"
    spec = importlib.util.spec_from_file_location("_large_slide", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["auto", "jpeg", "openslide"])
def test_tiles_come_in_the_order_of_the_coords(tmp_path, kind):
    path = write_slide(tmp_path / "a.tif", texture(1200, 1200))
    with opened(path) as slide:
        grid = full_grid(slide)
        backwards = replace(grid, coords=grid.coords[::-1])
        tiles = list(read_tiles(slide, grid, reader=kind))
        assert len(tiles) == len(grid) == 9
        assert all(tile.shape == (256, 256, 3) and tile.dtype == np.uint8 for tile in tiles)
        for a, b in zip(
            tiles, reversed(list(read_tiles(slide, backwards, reader=kind))), strict=True
        ):
            assert np.array_equal(a, b)
        for a, b in zip(tiles[3:7], read_tiles(slide, grid, 3, 7, reader=kind), strict=True):
            assert np.array_equal(a, b)
        assert list(read_tiles(slide, grid, 9, reader=kind)) == []


def test_tiles_do_not_change_under_the_readers_hands(tmp_path):
    """A tile that was handed out stays as it was when later ones are read."""
    path = write_slide(tmp_path / "a.tif", texture(1024, 1024))
    with opened(path) as slide:
        tiles = read_tiles(slide, full_grid(slide, mpp=0.25))
        first = next(tiles)
        copy = first.copy()
        (first_again,) = read_tiles(slide, full_grid(slide, mpp=0.25), 0, 1)
        for _ in tiles:
            pass
        assert np.array_equal(first, copy)
        assert np.array_equal(first_again, copy)


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(1024, 1024))
    with opened(path) as slide:
        assert slide.jpeg_tiles is not None
        tiles = read_tiles(slide, full_grid(slide, mpp=0.25))
        assert slide.jpeg_tiles.decoded_tiles == 0
        list(itertools.islice(tiles, 3))
        assert slide.jpeg_tiles.decoded_tiles == 3


def test_512_and_1024_px_tiles(tmp_path):
    path = write_slide(tmp_path / "a.tif", texture(2100, 2100))
    with opened(path) as slide:
        for tile_px in (512, 1024):
            grid = full_grid(slide, tile_px=tile_px)
            fast = next(read_tiles(slide, grid, reader="jpeg"))
            slow = next(read_tiles(slide, grid, reader="openslide"))
            assert fast.shape == (tile_px, tile_px, 3)
            assert np.abs(fast.astype(float) - slow).mean() < 1.0


def test_memory_does_not_grow_with_the_number_of_tiles(tmp_path, monkeypatch, large_slide_maker):
    """3,000 tiles of 192 KiB would be 562 MiB; a cache of 8 MiB and a few tiles are held."""
    monkeypatch.setattr(reader, "CACHE_BYTES", 8 * MIB)
    cell = large_slide_maker.repeat_to_cell(texture(512, 512))
    path = large_slide_maker.write_large_slide(
        tmp_path / "large.tif", cell, width=40_960, height=20_480
    )
    with opened(path) as slide:
        grid = full_grid(slide, mpp=0.5, shift=100)
        tracemalloc.start()
        try:
            read = sum(1 for _ in read_tiles(slide, grid, 3_000, 6_000))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert read == 3_000
    assert peak < 16 * MIB


def test_the_large_slide_is_what_it_says(tmp_path, large_slide_maker):
    """The benchmark's slide: OpenSlide opens it, its levels show the same picture."""
    cell = large_slide_maker.repeat_to_cell(texture(512, 512))
    path = large_slide_maker.write_large_slide(
        tmp_path / "large.tif", cell, width=20_000, height=13_000
    )
    with opened(path) as slide:
        assert (slide.width, slide.height, slide.mpp) == (20_000, 13_000, 0.5)
        assert [round(level.downsample) for level in slide.levels] == [1, 4, 16, 64]
        coarse = slide.region(4096, 4096, 64, 8.0).reshape(16, 4, 16, 4, 3)
        fine = slide.square(4096, 4096, 1024, 1024).reshape(16, 64, 16, 64, 3)
        # Moved by a sixteenth of the square they would differ by 16.
        assert np.abs(coarse.mean(axis=(1, 3)) - fine.mean(axis=(1, 3))).mean() < 4
        assert slide.square(0, 0, 256, 256).min() > 235
