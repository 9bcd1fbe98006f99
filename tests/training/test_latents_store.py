"""What was written is what is read; a killed writer goes on to the same bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.errors import SettingsError, WorkFolderError
from pixcell_share.training.latents import IndexRow, LatentStore, StoreWriter
from pixcell_share.training.latents.info import rows_of_a_shard
from pixcell_share.training.latents.writer import claimed
from tests.training.latents_making import fill, make_info, make_store, row_values


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_round_trip(tmp_path: Path) -> None:
    store = LatentStore.open(make_store(tmp_path / "store"))
    assert store.info == make_info()
    assert store.shard_rows("train") == [5, 5, 2]
    assert (store.count("train"), store.count("holdout")) == (12, 3)
    rows = np.array([11, 0, 4, 5, 5])
    regions = store.read("train", rows)
    for at, row in enumerate(rows):
        latents, embeddings, index = row_values(int(row))
        assert np.array_equal(regions.latents[at], latents)
        assert np.array_equal(regions.embeddings[at], embeddings)
        about = store.describe("train", int(row))
        assert about["shard"] == f"train-{row // 5:05d}" and about["row"] == str(row % 5)
        assert {about[key] for key in ("slide", "case", "x")} == {index.slide, index.case, index.x}
    assert regions.finite.all()
    assert np.array_equal(store.read("holdout", np.array([2])).latents[0], row_values(1002)[0])
    with pytest.raises(IndexError):
        store.read("train", np.array([12]))


def test_crops_are_cuts_of_whole_rows(tmp_path: Path) -> None:
    store = LatentStore.open(make_store(tmp_path / "store"))
    rows, places = np.array([7, 3]), np.array([[1, 0], [0, 1]])
    crops = store.read_crops("train", rows, places, 1)
    whole = store.read("train", rows)
    assert np.array_equal(crops.latents[0], whole.latents[0, :, 4:, :4])
    assert np.array_equal(crops.latents[1], whole.latents[1, :, :4, 4:])
    assert np.array_equal(crops.embeddings[0, 0], whole.embeddings[0, 2])
    assert np.array_equal(crops.embeddings[1, 0], whole.embeddings[1, 1])


def test_numpy_alone_opens_a_shard(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    array = np.load(folder / "train-00001.latents.npy")
    assert array.dtype == np.float16 and array.shape == (5, 4, 8, 8)
    assert np.array_equal(array[0], row_values(5)[0])
    done = subprocess.run(["sha256sum", "-c", "train-00001.sha256"], cwd=folder, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("stopped_after", [0, 1, 5, 7, 12])
def test_resume_gives_the_same_bytes(tmp_path: Path, stopped_after: int) -> None:
    make_store(tmp_path / "whole", holdout=0)
    broken = tmp_path / "broken"
    writer = StoreWriter(broken, make_info())
    fill(writer, range(stopped_after))
    # Killed: neither closed nor finished, and one file renamed of a shard that was not.
    (broken / f"train-{stopped_after // 5:05d}.latents.npy").write_bytes(b"half")
    del writer
    with StoreWriter(broken, make_info()) as again:
        done = again.rows_done("train")
        assert done == stopped_after // 5 * 5
        fill(again, range(done, 12))
        again.finish()
    assert files(broken) == files(tmp_path / "whole")


def test_an_error_leaves_whole_shards_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError), StoreWriter(tmp_path, make_info()) as writer:
        fill(writer, range(6))
        latents, embeddings, row = row_values(6)
        writer.add("train", latents.astype(np.float32), embeddings, row)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "store.json", "train-00000.csv", "train-00000.embeddings.npy",
        "train-00000.latents.npy", "train-00000.sha256",
    ]  # fmt: skip


def test_other_settings_are_refused(tmp_path: Path) -> None:
    StoreWriter(tmp_path, make_info())
    with pytest.raises(WorkFolderError, match="shard_rows was 5, now 6"):
        StoreWriter(tmp_path, make_info(6))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        claimed(tmp_path),
        pytest.raises(WorkFolderError, match="another process"),
        claimed(tmp_path),
    ):
        pass


def test_any_name_takes_one_line(tmp_path: Path) -> None:
    odd = 'a,"b"\nc\u2028d'
    latents, embeddings, _ = row_values(0)
    with StoreWriter(tmp_path, make_info()) as writer:
        writer.add("train", latents, embeddings, IndexRow(odd, case="é, ü"))
        writer.add("train", latents, embeddings, IndexRow("plain"))
        writer.finish()
    store = LatentStore.open(tmp_path)
    assert store.describe("train", 0)["slide"] == 'a,"b" c d'
    assert store.describe("train", 0)["case"] == "é, ü"
    assert store.describe("train", 1)["slide"] == "plain"


def test_shard_sizes() -> None:
    # A 1024 px region with SD3.5's VAE and UNI2-h: 512 KiB of latents, 48 KiB of embeddings.
    assert rows_of_a_shard(560 * 2**10, 2048) == 3744
    with pytest.raises(SettingsError, match="holds no region"):
        rows_of_a_shard(560 * 2**10, 0.5)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no latent store"):
        LatentStore.open(tmp_path)
