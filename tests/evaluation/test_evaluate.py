"""From pictures to a stored result, with nano and with embeddings of others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixcell_share.encoders import Encoder, load_encoder
from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation import (
    METRICS,
    EvaluationResult,
    ExtractionSettings,
    ImageDataset,
    difference,
    embed_dataset,
    evaluate,
    mean_over_datasets,
    read_image_folder,
)
from pixcell_share.evaluation.embedded import PARTS
from pixcell_share.evaluation.embedding_files import read_thunder_part, write_thunder_part
from pixcell_share.evaluation.extract import cache_folder
from pixcell_share.evaluation.simple_shot import draw_few_shot
from pixcell_share.privacy.intervals import Estimate
from tests.evaluation.evaluation_data import embedded_dataset, write_pictures

SMALL = ExtractionSettings(batch_size=3, block=5)


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture
def pictures(tmp_path: Path) -> ImageDataset:
    """Two classes; the last picture of each is of another size."""
    files = [f"{name}/{i}.png" for name in "ab" for i in range(9)]
    write_pictures(tmp_path / "set", files)
    write_pictures(tmp_path / "set", ["a/8.png", "b/8.png"], side=40)
    return read_image_folder(tmp_path / "set")


def test_pictures_are_embedded_in_their_order(nano: Encoder, pictures: ImageDataset) -> None:
    told: list[int] = []
    found = embed_dataset(nano, pictures, settings=SMALL, advance=told.append)
    for part in PARTS:
        own = getattr(pictures, part)
        alone = [nano.embed(picture[None])[0] for picture in own.pictures.read(range(len(own)))]
        assert np.allclose(getattr(found, part).embeddings, np.stack(alone), atol=1e-5)
        assert np.array_equal(getattr(found, part).labels, own.labels)
    assert (found.digest, sum(told)) == (pictures.digest, 18)


class Counting:
    """An encoder that counts tiles, and can fail after some."""

    def __init__(self, encoder: Encoder, fail_after: int = 1000) -> None:
        self._encoder, self._left = encoder, fail_after
        self.seen = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.seen += len(images)
        if self.seen > self._left:
            raise KeyboardInterrupt
        return self._encoder.embed(images)


def test_an_interrupted_extraction_goes_on(
    nano: Encoder, pictures: ImageDataset, tmp_path: Path
) -> None:
    whole = embed_dataset(nano, pictures, tmp_path / "whole", settings=SMALL)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(Counting(nano, 9), pictures, tmp_path / "cache", settings=SMALL)
    again = Counting(nano)
    found = embed_dataset(again, pictures, tmp_path / "cache", settings=SMALL)
    assert again.seen == 18 - 5  # one block of five was whole
    third = Counting(nano)
    embed_dataset(third, pictures, tmp_path / "cache", settings=SMALL)
    assert third.seen == 0
    for part in PARTS:
        assert np.array_equal(getattr(found, part).embeddings, getattr(whole, part).embeddings)
    files = [sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*"))
             for name in ("whole", "cache")]  # fmt: skip
    assert files[0] == files[1]
    for path in (path for path in files[0] if path.suffix):
        assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "cache" / path).read_bytes()


def test_another_encoder_or_picture_has_embeddings_of_its_own(
    nano: Encoder, pictures: ImageDataset, tmp_path: Path
) -> None:
    here = cache_folder(tmp_path, nano, pictures)
    assert cache_folder(tmp_path, nano, replace(pictures)) == here
    other = Encoder(nano.spec, nano._module, replace(nano.identity, sha256="0" * 64))
    assert cache_folder(tmp_path, other, pictures) != here
    path = pictures.test.pictures.folder / pictures.test.pictures.files[0]
    write_pictures(path.parent, [path.name], side=33)
    assert cache_folder(tmp_path, nano, replace(pictures)) != here


def test_a_cache_of_other_labels_is_refused(
    nano: Encoder, pictures: ImageDataset, tmp_path: Path
) -> None:
    embed_dataset(nano, pictures, tmp_path)
    folder = cache_folder(tmp_path, nano, pictures)
    kept = read_thunder_part(folder / "val")
    write_thunder_part(folder / "val", replace(kept, labels=1 - kept.labels))
    with pytest.raises(DataError, match="not of these labels"):
        embed_dataset(nano, pictures, tmp_path)


def test_nano_is_evaluated_and_the_result_is_kept(
    nano: Encoder, pictures: ImageDataset, tmp_path: Path
) -> None:
    found = evaluate(nano, pictures, cache=tmp_path)
    assert found.encoder == nano.identity
    assert found.sizes == {"train": 12, "val": 2, "test": 4}
    assert (found.dataset, found.classes) == ("set", 2)
    assert found.balanced_accuracy == found.figures[""]["balanced_accuracy"]
    assert EvaluationResult.from_json(found.to_json()) == found
    assert str(tmp_path) not in found.to_json()
    stored = json.loads(found.to_json())
    assert set(stored["figures"][""]) == set(METRICS)
    assert stored["dataset"]["digest"] == pictures.digest


@pytest.mark.parametrize(
    ("task", "settings"),
    [("knn", {""}), ("linear_probing", {""}), ("simple_shot", {"1", "2", "4", "8", "16"})],
)
def test_every_task_learns_something(task: str, settings: set[str]) -> None:
    found = evaluate(None, embedded_dataset(), task=task)
    assert set(found.figures) == settings
    assert found.balanced_accuracy.low > 0.4  # a third by chance
    assert found.encoder is None
    assert EvaluationResult.from_dict(json.loads(found.to_json())) == found


def test_more_shots_are_better() -> None:
    found = evaluate(None, embedded_dataset(400, 10, 300), task="simple_shot")
    assert found.figures["16"]["accuracy"].value > found.figures["1"]["accuracy"].value


def test_what_cannot_be_evaluated(pictures: ImageDataset) -> None:
    with pytest.raises(SettingsError, match="there is no encoder for them"):
        evaluate(None, pictures)
    with pytest.raises(SettingsError, match="there is no task"):
        evaluate(None, embedded_dataset(), task="guess")
    with pytest.raises(DataError, match="one test tile"):
        evaluate(None, embedded_dataset(test=1))
    with pytest.raises(DataError, match="a class has 1 training tiles, fewer than 2"):
        draw_few_shot(np.array([0, 0, 1]), (2,))


@pytest.mark.parametrize("spoil", ["schema", "figures", "sizes"])
def test_other_json_is_no_result(spoil: str) -> None:
    values = evaluate(None, embedded_dataset()).to_dict()
    values[spoil if spoil != "sizes" else "dataset"] = {}
    with pytest.raises(DataError, match="no result of an evaluation"):
        EvaluationResult.from_json(json.dumps(values))
    with pytest.raises(DataError, match="no JSON"):
        EvaluationResult.from_json("{")


def test_the_mean_over_data_sets() -> None:
    result = evaluate(None, embedded_dataset())
    figures = [Estimate(0.6, 0.5, 0.7), Estimate(0.8, 0.7, 0.9)]
    results = [
        replace(result, dataset=str(i), figures={"": {"balanced_accuracy": figure}})
        for i, figure in enumerate(figures)
    ]
    found = mean_over_datasets(results)
    assert found.value == pytest.approx(0.7)
    assert found.high - found.value == pytest.approx(0.1 / np.sqrt(2))
    with pytest.raises(DataError, match="no common mean"):
        mean_over_datasets([results[0], results[0]])
    with pytest.raises(DataError, match="no common mean"):
        mean_over_datasets([])


def test_a_difference_is_judged_on_the_same_tiles() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    hard = rng.random(600) < 0.4
    first = np.where(hard, (labels + 1) % 3, labels)
    second = np.where(hard & (rng.random(600) < 0.8), (labels + 1) % 3, labels)
    found = difference(labels, first, second)
    assert found.value == pytest.approx(0.08, abs=0.03)
    assert 0 < found.low < found.value < found.high < 0.15
    apart = [difference(labels, labels, named) for named in (first, second)]
    assert found.high - found.low < max(each.high - each.low for each in apart)
    reverse = difference(labels, second, first)
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    nothing = difference(labels, first, first)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_tiles_of_a_patient_count_as_one() -> None:
    labels = np.tile([0, 1], 120)
    patients = np.repeat(np.arange(24), 10)
    wrong = patients % 3 == 0
    second = np.where(wrong, 1 - labels, labels)
    alone = difference(labels, labels, second)
    together = difference(labels, labels, second, groups=patients)
    assert together.value == alone.value == pytest.approx(-1 / 3)
    assert together.high - together.low > 2 * (alone.high - alone.low)
