"""Data sets as people have them on disk, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation import (
    PAPER_DATASETS,
    Division,
    EmbeddedDataset,
    ImageDataset,
    open_dataset,
    read_embedding_file,
    read_image_folder,
    read_named_dataset,
    read_thunder_split,
    write_thunder_part,
)
from pixcell_share.evaluation.embedded import PARTS
from pixcell_share.evaluation.named_datasets import BASE_VARIABLE, SIZES
from tests.evaluation.evaluation_data import embedded_dataset, write_pictures


def labels_of(dataset: ImageDataset | EmbeddedDataset) -> dict[str, list[int]]:
    return {part: getattr(dataset, part).labels.tolist() for part in PARTS}


def files_of(dataset: ImageDataset) -> dict[str, tuple[str, ...]]:
    return {part: getattr(dataset, part).pictures.files for part in PARTS}


def split_file(path: Path, files: dict[str, list[str]]) -> Path:
    split = {
        part: {"images": own, "labels": [int("b/" in file) for file in own]}
        for part, own in files.items()
    }
    split["train_few_shot"] = {
        "1": {"images": [[0, 1], [0, 1]], "labels": [[0, 1], [0, 1]]},
        "2": {"images": [], "labels": []},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(split))
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    files = {part: [f"{part}/a/1.png", f"{part}/b/2.png"] for part in PARTS}
    for own in files.values():
        write_pictures(tmp_path, own)
    return split_file(tmp_path / "mine.json", files)


def test_thunders_split_file(split: Path) -> None:
    found = read_thunder_split(split, split.parent)
    assert (found.name, labels_of(found)) == ("mine", {key: [0, 1] for key in PARTS})
    assert found.few_shot is not None
    assert found.few_shot.rows[1].tolist() == [[0, 1], [0, 1]]
    assert list(found.few_shot.rows) == [1]
    assert next(found.train.pictures.read(range(1, 2))).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda split: split.pop("val"),
        lambda split: split["test"]["labels"].pop(),
        lambda split: split["test"]["images"].append("nowhere.png"),
        lambda split: split["train"].update(images=[], labels=[]),
        lambda split: split["train"].update(labels=["a", "b"]),
        lambda split: split["train_few_shot"]["1"]["images"].append([0, 7]),
    ],
    ids=["no part", "a label less", "no such picture", "empty", "named labels", "no such tile"],
)
def test_a_wrong_split_file_is_refused(split: Path, spoil) -> None:
    content = json.loads(split.read_text())
    spoil(content)
    split.write_text(json.dumps(content))
    with pytest.raises(DataError):
        read_thunder_split(split, split.parent)


def test_pictures_in_hdf5(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    for part in PARTS:
        with h5py.File(tmp_path / f"{part}_x.h5", "w") as file:
            file["x"] = pixels
        with h5py.File(tmp_path / f"{part}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
    path = tmp_path / "patches.json"
    entries = {p: {"images": f"{p}_x.h5", "labels": f"{p}_y.h5"} for p in PARTS}
    path.write_text(json.dumps(entries))
    found = read_thunder_split(path, tmp_path)
    assert labels_of(found) == {key: [0, 1, 1] for key in PARTS}
    assert np.array_equal(np.stack(list(found.val.pictures.read(range(3)))), pixels)
    (tmp_path / "test_x.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="HDF5"):
        read_thunder_split(path, tmp_path)


def test_a_folder_with_parts(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{part}/{name}/{i}.png" for part in PARTS for name in "ab" for i in (1, 2)])  # noqa: E501  # fmt: skip
    found = read_image_folder(tmp_path)
    assert found.class_names == ("a", "b")
    assert labels_of(found) == {key: [0, 0, 1, 1] for key in PARTS}
    assert files_of(found)["val"] == ("val/a/1.png", "val/a/2.png", "val/b/1.png", "val/b/2.png")


def test_a_folder_of_classes_is_divided_the_same_each_time(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{name}/{i:02d}.png" for name in ("a", "b") for i in range(20)])
    found = read_image_folder(tmp_path)
    assert {part: sorted(own) for part, own in labels_of(found).items()} == {
        "train": [0] * 12 + [1] * 12,
        "val": [0] * 3 + [1] * 3,
        "test": [0] * 5 + [1] * 5,
    }
    assert files_of(read_image_folder(tmp_path)) == files_of(found)
    assert files_of(read_image_folder(tmp_path, division=Division(seed=1))) != files_of(found)
    everything = [file for own in files_of(found).values() for file in own]
    assert len(set(everything)) == 40


def test_groups_stay_together(tmp_path: Path) -> None:
    files = [f"{name}/{i:02d}.png" for name in ("a", "b") for i in range(30)]
    write_pictures(tmp_path, files, side=4)
    rows = [f"{file},{file[0]},{file[0]}{int(file[2:4]) // 3}" for file in files]
    (tmp_path / "table.csv").write_text("\n".join(["file,kind,patient", *rows]) + "\n")
    found = read_image_folder(tmp_path, table=tmp_path / "table.csv", label="kind", group="patient")
    groups = [{f"{file[0]}{int(file[2:4]) // 3}" for file in own} for own in files_of(found).values()]  # noqa: E501  # fmt: skip
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20


def test_a_class_that_a_part_would_lack_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png"])
    with pytest.raises(DataError, match="no picture of b"):
        read_image_folder(tmp_path)
    with pytest.raises(SettingsError, match="leave a part empty"):
        Division(val=0.5, test=0.5)


def test_the_digest_is_that_of_pictures_and_labels(tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        write_pictures(tmp_path / name, [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    (tmp_path / "two").rename(tmp_path / "renamed")
    write_pictures(tmp_path / "other" / "a", ["0.png"], side=7)
    digests = [read_image_folder(tmp_path / name).digest for name in ("one", "renamed", "other")]
    assert digests[0] == digests[1] != digests[2]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{name}/{i}.png" for name in "ab" for i in range(3)])
    found = read_image_folder(tmp_path)
    path = tmp_path / found.train.pictures.files[0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot be read as a picture"):
        list(found.train.pictures.read(range(1)))


def arrays_of(dataset: EmbeddedDataset) -> dict[str, np.ndarray]:
    return {
        f"{part}_{what}": getattr(getattr(dataset, part), what)
        for part in PARTS
        for what in ("embeddings", "labels")
    }


def test_embedding_files_and_folders_hold_the_same(tmp_path: Path) -> None:
    dataset = embedded_dataset(20, 10, 15)
    np.savez(tmp_path / "set.npz", **arrays_of(dataset))
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for name, values in arrays_of(dataset).items():
            file[name] = values
    for part in PARTS:
        write_thunder_part(tmp_path / "set" / "model" / part, getattr(dataset, part))
    for where in ("set.npz", "set.h5", "set/model"):
        found = open_dataset(str(tmp_path / where))
        assert isinstance(found, EmbeddedDataset)
        assert (found.name, found.digest, found.sizes) == ("set", dataset.digest, dataset.sizes)
    changed = arrays_of(dataset)
    changed["val_labels"] = (changed["val_labels"] + 1) % 3
    np.savez(tmp_path / "changed.npz", **changed)
    assert read_embedding_file(tmp_path / "changed.npz").digest != dataset.digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("val_labels", np.zeros(3, np.int64)),
        ("test_embeddings", np.full((15, 12), np.nan)),
        ("test_embeddings", np.zeros((15, 12))),
        ("test_embeddings", np.ones((15, 5))),
        ("train_labels", np.full(20, -1)),
        ("train_labels", np.array(["a"] * 20, dtype=object)),
    ],
)
def test_wrong_embedding_files_are_refused(tmp_path: Path, name: str, value: np.ndarray) -> None:
    arrays = arrays_of(embedded_dataset(20, 10, 15)) | {name: value}
    np.savez(tmp_path / "set.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError):
        read_embedding_file(tmp_path / "set.npz")


@pytest.mark.parametrize("content", [b"", b"PK nothing", b"\x89HDF\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["set.npz", "set.h5"])
def test_files_of_something_else_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="does not hold the arrays"):
        read_embedding_file(tmp_path / name)


def test_a_folder_with_a_gap_is_refused(tmp_path: Path) -> None:
    dataset = embedded_dataset(20, 10, 15)
    for part in PARTS:
        write_thunder_part(tmp_path / part, getattr(dataset, part))
    with h5py.File(tmp_path / "val" / "embeddings.h5", "a") as file:
        del file["3"]
    with pytest.raises(DataError, match=r"datasets 0, 1"):
        open_dataset(str(tmp_path))


def test_public_data_sets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "bach", (2, 2, 2))  # type: ignore[call-overload]
    files = {part: [f"{part}/a.png", f"{part}/b/c.png"] for part in PARTS}
    for own in files.values():
        write_pictures(tmp_path / "datasets" / "bach", own)
    split_file(tmp_path / "datasets" / "data_splits" / "bach.json", files)
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path))
    found = open_dataset("bach")
    assert (found.name, labels_of(found)) == ("bach", {key: [0, 1] for key in PARTS})
    monkeypatch.setitem(SIZES, "bach", (3, 2, 2))  # type: ignore[call-overload]
    with pytest.raises(DataError, match=r"\(2, 2, 2\) tiles"):
        open_dataset("bach")


def test_a_data_set_that_is_not_there_says_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"datasets/crc and .*data_splits/crc\.json"):
        read_named_dataset("crc", tmp_path)
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    with pytest.raises(SettingsError, match="no folder of data sets"):
        read_named_dataset("crc")
    with pytest.raises(SettingsError, match="there is no data set"):
        read_named_dataset("imagenet", tmp_path)
    with pytest.raises(SettingsError, match="is no data set"):
        open_dataset(str(tmp_path / "nothing"))
    assert len(PAPER_DATASETS) == 9
