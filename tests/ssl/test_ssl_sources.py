"""Tiles of shards and pictures."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from pixcell_share.errors import DataError
from pixcell_share.ssl.sources import digest_of, open_source
from tests.ssl.conftest import drawn_tiles, source


def test_rows_go_on_from_shard_to_shard(shards: Path) -> None:
    tiles, _ = drawn_tiles(120)
    opened = open_source(source(shards))
    assert len(opened) == 120
    for row in (0, 49, 50, 119):
        assert np.array_equal(opened.read(row), tiles[row])
    assert opened.where(50).endswith("shard-00001.h5, row 0")


def test_one_file_is_a_source(shards: Path) -> None:
    assert len(open_source(source(shards / "shard-00000.h5"))) == 50


def test_many_shards_hold_few_files_open(tmp_path: Path) -> None:
    for number in range(40):
        with h5py.File(tmp_path / f"{number:02d}.h5", "w") as file:
            file["images"] = np.full((1, 8, 8, 3), number, np.uint8)
    opened = open_source(source(tmp_path))
    assert [int(opened.read(row)[0, 0, 0]) for row in range(40)] == list(range(40))
    links = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert sum(tmp_path in link.parents for link in links) <= 16


def test_pictures_in_folders_of_classes(tmp_path: Path) -> None:
    tiles, _ = drawn_tiles(4)
    for number, tile in enumerate(tiles):
        (tmp_path / f"class-{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(tile).save(tmp_path / f"class-{number % 2}" / f"{number}.png")
    Image.fromarray(tiles[0][:, :, 0]).save(tmp_path / "grey.png")
    (tmp_path / "notes.txt").write_text("no tile")
    opened = open_source(source(tmp_path))
    assert len(opened) == 5
    assert np.array_equal(opened.read(0), tiles[0])
    assert opened.read(4).shape == (64, 64, 3)


def test_what_holds_no_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tiles"):
        open_source(source(tmp_path))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((2, 8, 8), np.float32)
    with pytest.raises(DataError, match="float32"):
        open_source(source(tmp_path))
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"a\.h5 cannot be read"):
        open_source(source(tmp_path))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png cannot be read"):
        open_source(source(tmp_path)).read(0)


def test_the_digest_tells_sources_apart(shards: Path, tmp_path: Path) -> None:
    assert digest_of(open_source(source(shards, digest="abc"))) == "abc"
    whole, part = source(shards), source(shards / "shard-00000.h5")
    assert digest_of(open_source(whole)).startswith("names-and-sizes:")
    assert digest_of(open_source(whole)) != digest_of(open_source(part))
