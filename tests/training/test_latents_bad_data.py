"""Every way in which a store can be bad: named, and left out or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import DataError
from pixcell_share.progress import LineView
from pixcell_share.training.latents import LatentStore, StoreWriter
from pixcell_share.training.latents.check import check_stores
from tests.training.latents_making import fill, make_info, make_store, row_values


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _wrong_shape(path: Path) -> None:
    np.save(path, np.zeros((5, 4, 8, 7), np.float16))


def _wrong_type(path: Path) -> None:
    np.save(path, np.zeros((5, 4, 8, 8), np.float32))


def _one_row_less(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _other_columns(path: Path) -> None:
    path.write_text(path.read_text().replace("slide,", "slides,", 1))


Damage = tuple[str, Callable[[Path], None], str]
DAMAGES: dict[str, Damage] = {
    "truncated latents": ("latents.npy", _truncate, "latents.npy is truncated"),
    "truncated embeddings": ("embeddings.npy", _truncate, "embeddings.npy is truncated"),
    "truncated header": ("latents.npy", lambda p: p.write_bytes(p.read_bytes()[:9]), "no .npy"),
    "empty file": ("latents.npy", lambda p: p.write_bytes(b""), "no .npy file"),
    "wrong shape": ("latents.npy", _wrong_shape, "not float16 N x 4 x 8 x 8"),
    "wrong type": ("latents.npy", _wrong_type, "is float32"),
    "missing half": ("embeddings.npy", Path.unlink, "train-00001.embeddings.npy is missing"),
    "missing index": ("csv", Path.unlink, "train-00001.csv is missing"),
    "short index": ("csv", _one_row_less, "5 of embeddings and 4 of the index"),
    "truncated index": ("csv", _truncate, "csv is truncated"),
    "index of other columns": ("csv", _other_columns, "does not begin with the columns"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_shard_is_named(tmp_path: Path, name: str) -> None:
    part, damage, message = DAMAGES[name]
    folder = make_store(tmp_path / "store")
    damage(folder / f"train-00001.{part}")
    with pytest.raises(DataError) as refused:
        LatentStore.open(folder)
    assert "train-00001" in refused.value.cause and message in refused.value.cause
    assert (refused.value.code, refused.value.exit_code) == ("data", 1)

    said: list[str] = []
    store = LatentStore.open(folder, on_bad="skip", say=said.append)
    assert len(said) == 1 and "train-00001" in said[0] and message in said[0]
    assert store.shard_rows("train") == [5, 2]
    # Row 5 is now the first of the third shard.
    assert np.array_equal(store.read("train", np.array([5])).latents[0], row_values(10)[0])
    assert store.describe("train", 5)["shard"] == "train-00002"
    faults = check_stores([folder], LineView())
    assert [fault.where for fault in faults] == ["train-00001"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_gap_in_the_numbers(tmp_path: Path, number: int) -> None:
    folder = make_store(tmp_path / "store")
    for path in folder.glob(f"train-{number:05d}.*"):
        path.unlink()
    with pytest.raises(DataError, match=f"train-{number:05d}.*gap"):
        LatentStore.open(folder)
    store = LatentStore.open(folder, on_bad="skip", say=lambda _: None)
    assert store.count("train") == 12 - [5, 5, 2][number]


def test_every_fault_is_named(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    (folder / "train-00000.csv").unlink()
    (folder / "holdout-00000.latents.npy").unlink()
    with pytest.raises(DataError, match=r"train-00000.*holdout-00000"):
        LatentStore.open(folder)


def test_a_store_that_is_not_finished(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, make_info())
    fill(writer, range(7))
    with pytest.raises(DataError, match="not finished"):
        LatentStore.open(tmp_path)
    assert LatentStore.open(tmp_path, on_bad="skip", say=print).count("train") == 5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}'])
def test_a_damaged_description(tmp_path: Path, text: str) -> None:
    folder = make_store(tmp_path / "store")
    (folder / "store.json").write_text(text)
    with pytest.raises(DataError, match=r"store\.json"):
        LatentStore.open(folder, on_bad="skip")


def test_shards_that_another_store_left(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    value = json.loads((folder / "store.json").read_text())
    value["shards"]["train"] = [5, 4]
    (folder / "store.json").write_text(json.dumps(value))
    said: list[str] = []
    store = LatentStore.open(folder, on_bad="skip", say=said.append)
    assert store.shard_rows("train") == [5]
    assert "5 rows, and store.json says 4" in said[0] and "not named in store.json" in said[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["latents", "embeddings"])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float, part: str) -> None:
    folder = make_store(tmp_path / "store")
    path = folder / f"train-00001.{part}.npy"
    array = np.load(path)
    array[2].flat[-1] = value
    np.save(path, array)
    regions = LatentStore.open(folder).read("train", np.array([6, 7, 8]))
    assert regions.finite.tolist() == [True, False, True]
    faults = [str(fault) for fault in check_stores([folder], LineView())]
    assert len(faults) == 2 and all("train-00001" in fault for fault in faults)
    assert "SHA-256 differs" in faults[0] and f"infinite {part} in row 2" in faults[1]


def test_largest_numbers_are_finite(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    path = folder / "train-00000.latents.npy"
    array = np.load(path)
    array[0].flat[:4] = [65504, -65504, 6e-8, -0.0]
    np.save(path, array)
    assert LatentStore.open(folder).read("train", np.array([0])).finite.all()


def test_a_sound_store_has_no_fault(tmp_path: Path) -> None:
    assert check_stores([make_store(tmp_path / "store")], LineView()) == []


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    path = folder / "train-00000.latents.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert ["SHA-256" in str(fault) for fault in check_stores([folder], LineView())] == [True]
    (folder / "train-00000.sha256").unlink()
    assert "sha256 cannot be read" in str(check_stores([folder], LineView())[0])
