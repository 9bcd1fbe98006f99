"""Coords and features files: the bytes, TRIDENT's own files, and bad files."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pixcell_share.errors import SettingsError, SlideError, StorageError
from pixcell_share.slides import (
    TileGrid,
    level0_tile_px,
    read_coords,
    read_features,
    write_coords,
    write_features,
)
from pixcell_share.slides.grid_format import nominal_magnification
from tests.slides.making_slides import opened, texture, write_slide

TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "slide",
    "savetodir": "/jobs/20x_256px_0px_overlap/patches",
    "level0_width": 3000,
    "level0_height": 2000,
}


def _grid(count: int = 12) -> TileGrid:
    coords = np.array([(512 * (i % 5), 512 * (i // 5)) for i in range(count)], np.int64)
    return TileGrid("slide", coords, 256, 512, 0.5, 0.25, 3000, 2000)


def _trident(
    path: Path,
    change: dict[str, Any] | None = None,
    coords: Any = ((0, 0), (512, 0)),
    features: Any = None,
) -> Path:
    """A file as TRIDENT writes it; an attribute changed to None is left out."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("coords", data=np.asarray(coords))
        for name, value in {**TRIDENT, **(change or {})}.items():
            if value is not None:
                dataset.attrs[name] = value
        if features is not None:
            file.create_dataset("features", data=features).attrs["encoder"] = "uni_v2"
    return path


def test_the_layout_is_tridents(tmp_path):
    path = tmp_path / "a.h5"
    write_coords(path, _grid())
    with h5py.File(path) as file:
        dataset = file["coords"]
        assert (dataset.shape, dataset.dtype, dataset.chunks) == ((12, 2), np.int64, (1, 2))
        assert dataset.maxshape == (None, 2)
        attributes = dict(dataset.attrs)
    ours = {"level0_mpp": 0.25, "target_mpp": 0.5}
    assert attributes == {**TRIDENT, "savetodir": ".", **ours}


def test_coords_come_back_as_they_were(tmp_path):
    grid, path = _grid(), tmp_path / "sub" / "a.h5"
    write_coords(path, grid)
    back = read_coords(path)
    assert np.array_equal(back.coords, grid.coords)
    assert back.coords.dtype == np.int64
    assert back.attributes == grid.attributes
    assert back.slide_id == "slide"


def test_equal_grids_give_equal_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_coords(tmp_path / name, _grid())
        blocks = (np.full((6, 8), i, np.float32) for i in range(2))
        write_features(tmp_path / f"f_{name}", _grid(), blocks, "nano")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "f_a.h5").read_bytes() == (tmp_path / "f_b.h5").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"overlap": None},
        {"patch_size_level0": None},
        {"name": np.bytes_(b"slide")},
        {"patch_size": np.int32(256), "level0_width": np.float64(3000)},
        {"level0_magnification": np.array([40])},
    ],
)
def test_tridents_own_files_are_read(tmp_path, change):
    grid = read_coords(_trident(tmp_path / "slide_patches.h5", change))
    assert grid.coords.tolist() == [[0, 0], [512, 0]]
    assert (grid.slide_id, grid.tile_px, grid.tile_px_level0) == ("slide", 256, 512)
    assert (grid.mpp, grid.slide_mpp, grid.overlap_px) == (0.5, 0.25, 0)


def test_with_the_slide_the_exact_resolution_is_known(tmp_path):
    slide_path = write_slide(tmp_path / "s.tif", texture(600, 700), mpp=0.2525)
    size = {"level0_width": 700, "level0_height": 600}
    path = _trident(tmp_path / "c.h5", size)
    with opened(slide_path) as slide:
        grid = read_coords(path, slide)
        assert grid.slide_id == "s"
        assert grid.slide_mpp == pytest.approx(0.2525)
        assert grid.mpp == pytest.approx(0.505)
        no_size = _trident(tmp_path / "d.h5", {"level0_width": None, "level0_height": None})
        assert (read_coords(no_size, slide).width, read_coords(no_size, slide).height) == (700, 600)
        with pytest.raises(SlideError, match=r"3000 x 2000 px, and s\.tif has 700 x 600"):
            read_coords(_trident(tmp_path / "e.h5"), slide)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda p: _trident(p, coords=[[0.0, 0.5]]), "coords of float64"),
        (lambda p: _trident(p, coords=[[1, 2, 3]]), "not integers of shape"),
        (lambda p: _trident(p, coords=np.zeros((0, 2), int)), "holds no tile"),
        (lambda p: _trident(p, coords=[[0, 0], [3000, 0]]), "tile 1 at (3000, 0), outside"),
        (lambda p: _trident(p, coords=[[-1, 0]]), "tile 0 at (-1, 0), outside"),
        (lambda p: _trident(p, {"patch_size": None}), "does not say its patch_size"),
        (lambda p: _trident(p, {"patch_size": "big"}), "patch_size that is no number"),
        (lambda p: _trident(p, {"patch_size": 0}), "patch_size of 0"),
        (lambda p: _trident(p, {"overlap": -4}), "overlap of -4"),
        (lambda p: _trident(p, {"level0_width": None}), "does not say its level0_width"),
        (lambda p: p.write_text("x,y\n0,0\n"), "cannot be read as HDF5"),
        (lambda p: h5py.File(p, "w").close(), "has no dataset named coords"),
        (lambda p: None, "cannot be read as HDF5"),
    ],
)
def test_bad_coords_name_the_file_and_the_fault(
    tmp_path, make: Callable[[Path], object], problem: str
):
    path = tmp_path / "bad.h5"
    make(path)
    with pytest.raises(SlideError) as caught:
        read_coords(path)
    assert problem in caught.value.cause
    assert caught.value.cause.startswith("bad.h5 ")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_an_error(tmp_path, kept):
    path = tmp_path / "a.h5"
    write_features(path, _grid(), [np.ones((12, 8), np.float32)], "nano")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(SlideError, match=r"a\.h5"):
        read_features(path)


def test_features_are_streamed_in_and_out(tmp_path):
    path, values = tmp_path / "f.h5", np.random.default_rng(0).normal(size=(12, 8))
    values = values.astype(np.float32)
    taken: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, 12, 5):
            taken.append(start)
            yield values[start : start + 5]

    write_features(path, _grid(), blocks(), "uni2h")
    assert taken == [0, 5, 10]
    with read_features(path) as file:
        assert (len(file), file.shape, file.encoder) == (12, (12, 8), "uni2h")
        assert np.array_equal(file.coords, _grid().coords)
        assert np.array_equal(file[3:7], values[3:7])
        assert file[:].dtype == np.float32
    with h5py.File(path) as plain:
        assert (plain["features"].chunks, plain["features"].dtype) == ((1, 8), np.float32)
        assert dict(plain["features"].attrs) == {
            "name": "slide",
            "savetodir": ".",
            "encoder": "uni2h",
        }


def test_features_of_several_tokens(tmp_path):
    path, values = tmp_path / "f.h5", np.arange(12 * 16 * 4, dtype=np.float32).reshape(12, 16, 4)
    write_features(path, _grid(), [values[:6], values[6:]], "uni2h")
    with read_features(path) as file:
        assert file.shape == (12, 16, 4)
        assert np.array_equal(file[2:4], values[2:4])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_tridents_features_are_read(tmp_path, dtype, batch):
    values = np.arange(8, dtype=dtype).reshape(2, 4)
    path = _trident(tmp_path / "f.h5", features=values[None] if batch else values)
    with read_features(path) as file:
        assert (file.shape, file.encoder, file[:].dtype) == ((2, 4), "uni_v2", np.float32)
        assert file[1:2].tolist() == [[4, 5, 6, 7]]


def test_one_tile_of_several_tokens_is_no_batch(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    with read_features(_trident(tmp_path / "f.h5", coords=[[0, 0]], features=values)) as file:
        assert file[:].shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (np.ones((3, 4), np.float32), "has 3 embeddings for 2 tiles"),
        (np.ones((2, 4), int), "features of int64"),
        (np.ones(2), "not floats of shape"),
        (np.ones((2, 0)), "not floats of shape"),
        (None, "has no dataset named features"),
    ],
)
def test_bad_features_name_the_file_and_the_fault(tmp_path, features, problem):
    with pytest.raises(SlideError) as caught:
        read_features(_trident(tmp_path / "bad.h5", features=features))
    assert problem in caught.value.cause
    assert "bad.h5" in caught.value.cause


def test_embeddings_that_are_no_numbers_are_an_error(tmp_path):
    values = np.array([[1, 2], [np.nan, 4]], np.float32)
    with read_features(_trident(tmp_path / "f.h5", features=values)) as file:
        assert file[:1].tolist() == [[1, 2]]
        with pytest.raises(SlideError, match="not finite"):
            file[1:2]


@pytest.mark.parametrize("rows", [10, 14])
def test_a_wrong_number_of_embeddings_leaves_no_file(tmp_path, rows):
    path = tmp_path / "f.h5"
    with pytest.raises(SettingsError, match=f"{rows} embeddings for 12 tiles"):
        write_features(path, _grid(), [np.ones((rows, 4), np.float32)], "nano")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_a_plain_error(tmp_path):
    """A limit on the size of a file stands in for the disk; no further tile is embedded."""
    path = tmp_path / "f.h5"
    write_features(path, _grid(), [np.ones((12, 4), np.float32)], "nano")
    before = path.read_bytes()
    taken: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for row in range(12):
            taken.append(row)
            yield np.ones((1, 400_000), np.float32)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match=r"f\.h5"):
            write_features(path, _grid(), blocks(), "nano")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert max(taken) < 11
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("slide_mpp", "mpp", "size"),
    [
        (0.25, 0.5, 512),
        (0.2498, 0.5, 512),
        (0.499, 0.5, 256),
        (0.5, 0.25, 128),
        (0.2465, 0.5, 519),
        (0.23, 0.5, 557),
        (0.2528, 0.5, 506),
    ],
)
def test_size_on_level_0(slide_mpp, mpp, size):
    assert level0_tile_px(256, mpp, slide_mpp) == size


def test_nominal_magnification_is_tridents():
    limits = {0.1: 80, 0.18: 60, 0.25: 40, 0.5: 20, 1.0: 10, 2.0: 5, 4.0: 1}
    assert {mpp: nominal_magnification(mpp) for mpp in limits} == limits
