"""The protocols against thunder-bench itself."""

from __future__ import annotations

import functools
import random
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixcell_share.evaluation import KS, METRICS, Embedded, EmbeddedDataset, write_thunder_part
from pixcell_share.evaluation.embedded import PARTS
from pixcell_share.evaluation.linear_probe import LinearProbeSettings, train_probe
from pixcell_share.evaluation.metrics import estimates
from pixcell_share.evaluation.protocols import knn
from pixcell_share.evaluation.simple_shot import draw_few_shot, simple_shot_votes
from pixcell_share.evaluation.votes import Voters
from tests.evaluation.evaluation_data import CLASSES, DIM, embedded_dataset, embedded_part
from tests.evaluation.thunder_oracle import thunder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

FEW = 150
"""Resamples of the bootstrap, where Thunder's 3000 would take ten seconds."""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Thunder would have written to ``outputs.json``; its logging to the web is left out."""
    written: dict[str, Any] = {}
    for name in ("knn_classification", "simple_shot", "train_eval_probe"):
        module = thunder(f"tasks.{name}")
        monkeypatch.setattr(module, "log_metrics", lambda *args, **kwargs: None)
        monkeypatch.setattr(module, "save_outputs", lambda folder, found: written.update(found))
    probe = thunder("tasks.train_eval_probe")
    monkeypatch.setattr(probe, "log_loss", lambda *args, **kwargs: None)
    return written


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Thunder draw `FEW` times."""
    module = thunder("utils.downstream_metrics")
    whole = module.bootstrap
    monkeypatch.setattr(
        module, "bootstrap", lambda *args, **kwargs: whole(*args, **{**kwargs, "n_resamples": FEW})
    )


def assert_same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for name in METRICS:
        found = ours[name]
        expected = [theirs[name][key] for key in ("metric_score", "ci_low", "ci_high")]
        assert expected == [found.value, found.low, found.high], name


def test_all_of_knn_digit_for_digit(
    recorded, few_resamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = functools.partial(estimates, resamples=FEW)
    monkeypatch.setattr("pixcell_share.evaluation.protocols.estimates", few)
    dataset = embedded_dataset()
    parts = {part: getattr(dataset, part) for part in PARTS}
    thunder("tasks.knn_classification").knn(
        {part: own.embeddings for part, own in parts.items()},
        {part: own.labels for part, own in parts.items()},
        list(KS),
        "",
        "",
    )
    found = knn(dataset)
    (k, theirs), *others = recorded.items()
    assert not others
    assert found.chosen == {"k": k}
    assert theirs["per_sample_pred"] == found.predicted[""].tolist()
    assert_same(theirs, found.figures[""])


def test_an_interval_of_all_draws() -> None:
    labels, predicted = (embedded_part(seed, 60).labels for seed in (0, 1))
    theirs = thunder("utils.downstream_metrics").compute_metric(
        labels, predicted, lambda true, named: np.mean(true == named)
    )
    found = estimates(labels, predicted)["accuracy"]
    expected = [theirs[key] for key in ("metric_score", "ci_low", "ci_high")]
    assert expected == [found.value, found.low, found.high]


@pytest.mark.parametrize(("classes", "tiles"), [(2, 30), (9, 60), (24, 90)])
def test_figures_of_draws_that_lack_classes(classes: int, tiles: int, few_resamples) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, tiles)
    predicted = np.where(rng.random(tiles) < 0.6, labels, rng.integers(0, classes + 1, tiles))
    theirs = thunder("utils.downstream_metrics").compute_metrics(None, predicted, labels)
    assert_same(theirs, estimates(labels, predicted, resamples=FEW))


def doubled(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each tile twice, under another label: the order among equal similarities decides."""
    return np.concatenate([rows, rows]), np.concatenate([labels, labels[::-1]])


CASES = {
    "plain": (600, 200, 16, False, False),
    "more neighbours than tiles": (35, 90, 8, False, False),
    "one query": (500, 1, 24, False, False),
    "copies": (700, 150, 32, True, False),
    "few values": (400, 300, 5, False, True),
    "two blocks": (300, 700, 64, True, False),
}


@pytest.mark.parametrize("case", CASES)
def test_votes_with_ties_and_copies(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles, queries, dim, copies, coarse = CASES[case]
    rng = np.random.default_rng(tiles)
    rows = rng.standard_normal((tiles, dim)).astype(np.float32)
    wanted = rng.standard_normal((queries, dim)).astype(np.float32)
    same = min(queries // 2, tiles)
    wanted[:same] = rows[:same]
    if coarse:
        rows, wanted = (np.round(2 * values) + 0.5 for values in (rows, wanted))
    labels = rng.integers(0, 5, tiles)
    if copies:
        rows, labels = doubled(rows, labels)
    theirs, _, _ = thunder("tasks.image_retrieval").topk_retrieval(
        rows, labels, wanted, np.zeros(queries, int), list(KS),
        disable_progress_bar=True, compute_ci=False,
    )  # fmt: skip
    monkeypatch.setattr("pixcell_share.evaluation.votes._SCORES_BYTES", 4 * len(rows) * 256)
    found = Voters(rows, labels).votes(wanted, KS)
    for k in KS:
        assert theirs[k]["per_sample_pred"] == found[k].tolist(), k


def stored(dataset: EmbeddedDataset, folder: Path) -> None:
    for part in PARTS:
        write_thunder_part(folder / "made-up" / "model" / part, getattr(dataset, part))


def probe_settings(settings: LinearProbeSettings) -> types.SimpleNamespace:
    """The part of Thunder's configuration that its probe reads."""
    space = types.SimpleNamespace
    return space(
        pretrained_model=space(emb_dim=DIM),
        dataset=space(nb_classes=CLASSES),
        adaptation=space(
            batch_size=settings.batch_size,
            num_workers=1,
            lr=list(settings.lrs),
            weight_decay=list(settings.weight_decays),
            epochs=settings.epochs,
        ),
        ckpt_saving=space(best_only=True),
    )


def test_the_linear_probe_trains_the_same_classifiers(
    recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last epoch is the best here: see `pixcell_share.evaluation.linear_probe`."""
    settings = LinearProbeSettings(lrs=(3e-2, 1e-3), weight_decays=(0.0, 1e-2), epochs=3)
    dataset = embedded_dataset()
    stored(dataset, tmp_path)
    module = thunder("tasks.train_eval_probe")
    monkeypatch.setattr(module, "compute_calibration_metrics", lambda *args, **kwargs: {})
    thunder("utils.utils").set_seed(0)
    theirs = module.train_probe(
        probe_settings(settings), None, "made-up", "model", True, False, "frozen",
        "linear_probing", torch.nn.CrossEntropyLoss(), "cpu", None, str(tmp_path), "",
        str(tmp_path),
    )  # fmt: skip
    found = train_probe(dataset, settings)
    assert (theirs["lr"], theirs["weight_decay"]) == (found.lr, found.weight_decay)
    assert theirs["epoch"] == found.epoch == settings.epochs - 1
    for name in ("weight", "bias"):
        expected = theirs["task_specific_model"][f"linear.{name}"]
        assert torch.allclose(getattr(found, name), expected, atol=1e-5)


def test_simple_shot_draw_by_draw(recorded, few_resamples, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = embedded_dataset()
    draws = draw_few_shot(dataset.train.labels, (3,))
    split = {
        str(shots): {"images": rows.tolist(), "labels": dataset.train.labels[rows].tolist()}
        for shots, rows in draws.rows.items()
    }
    module = thunder("tasks.simple_shot")
    monkeypatch.setattr(module, "get_data", lambda *args: {"train_few_shot": split})
    only_votes(monkeypatch)
    module.simple_shot(
        types.SimpleNamespace(dataset=object()), "", None, dataset.train.embeddings,
        dataset.test.embeddings, dataset.test.labels, "", "",
    )  # fmt: skip
    for shots, rows in draws.rows.items():
        found = simple_shot_votes(dataset.train, rows, dataset.test.embeddings)
        assert recorded[str(shots)]["per_sample_pred"] == found.tolist()


def only_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thunder computes all figures of all 2000 draws, and uses none of them."""

    def votes(probabilities: None, predicted: Any, labels: Any, **kwargs: Any) -> dict[str, Any]:
        return {"per_sample_pred": predicted.tolist(), "label": labels.tolist()}

    monkeypatch.setattr(thunder("tasks.image_retrieval"), "compute_metrics", votes)


def test_thunder_draws_as_we_do() -> None:
    labels = embedded_part(0, 60).labels
    split = {
        "train": {"images": [""] * 60, "labels": labels.tolist()},
        "train_few_shot": {shots: {"images": [], "labels": []} for shots in ("1", "2")},
    }
    random.seed(0)
    theirs = thunder("datasets.data_splits").create_few_shot_training_data(split, 20)
    found = draw_few_shot(labels, (1, 2), draws=20)
    for shots, rows in found.rows.items():
        assert theirs["train_few_shot"][str(shots)]["images"] == rows.tolist()


def test_thunder_reads_what_we_write(tmp_path: Path) -> None:
    dataset = embedded_dataset(30, 12, 11)
    stored(dataset, tmp_path)
    load = thunder("utils.data").load_embeddings
    embeddings, labels = load(str(tmp_path / "made-up" / "model"), list(PARTS))
    for part in PARTS:
        own: Embedded = getattr(dataset, part)
        assert np.array_equal(embeddings[part], own.embeddings)
        assert np.array_equal(labels[part], own.labels)
        assert (embeddings[part].dtype, labels[part].dtype) == (np.float32, np.int64)
