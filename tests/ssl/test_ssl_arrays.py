"""Tiles of the hub's canonical arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import DataError
from pixcell_share.ssl.sources import open_source
from tests.ssl.conftest import drawn_tiles, source


def test_rows_go_on_from_array_to_array(tmp_path: Path) -> None:
    tiles, _ = drawn_tiles(10)
    np.save(tmp_path / "images-00000.npy", tiles[:4])
    np.save(tmp_path / "images-00001.npy", tiles[4:])
    np.save(tmp_path / "labels-00000.npy", np.zeros(4, np.int64))
    opened = open_source(source(tmp_path))
    assert len(opened) == 10
    assert all(np.array_equal(opened.read(row), tiles[row]) for row in range(10))
    assert opened.where(4).endswith("images-00001.npy, row 0")


@pytest.mark.parametrize("wrong", [np.zeros((3, 8, 8, 3)), np.zeros((0, 8, 8, 3), np.uint8)])
def test_other_arrays_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    np.save(tmp_path / "images-00000.npy", wrong)
    with pytest.raises(DataError, match="holds"):
        open_source(source(tmp_path))


def test_a_cut_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images-00000.npy", np.zeros((3, 8, 8, 3), np.uint8))
    data = (tmp_path / "images-00000.npy").read_bytes()
    (tmp_path / "images-00000.npy").write_bytes(data[:-1])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(source(tmp_path))
