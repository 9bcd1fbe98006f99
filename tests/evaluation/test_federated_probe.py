"""Encoders and probes judged on a site's own tiles: by patient, and only in figures."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pixcell_share.errors import DataError, SettingsError
from pixcell_share.evaluation import (
    CountFloor,
    Probe,
    ProbeSettings,
    SiteFigures,
    SiteTiles,
    judge_encoder,
    judge_probe,
    train_step,
)

FLOOR = CountFloor(patients_per_class=5, test_tiles=10)


def site(seed: int, patients: int = 24, tiles: int = 6, apart: float = 1.0) -> SiteTiles:
    """Three classes around common means, patients around their class, a site's own shift."""
    means = np.random.default_rng(0).normal(size=(3, 32))
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), tiles)
    labels = who % 3
    own = rng.normal(scale=0.5, size=(patients, 32))
    found = apart * means[labels] + own[who] + rng.normal(scale=1.0, size=(len(who), 32)) + 2
    return SiteTiles(found.astype(np.float32), labels, who, 3)


@pytest.mark.parametrize("patients", [9, 10, 24])
def test_no_patient_is_on_two_sides_and_every_part_has_every_class(patients: int) -> None:
    tiles = site(1, patients)
    rows = {"train": tiles.training_rows(3), "test": tiles.test_rows(3)}
    dataset = tiles.divided(3)
    assert sum(dataset.sizes.values()) == len(tiles.labels)
    for part in (dataset.train, dataset.val, dataset.test):
        assert set(part.labels) == {0, 1, 2}
    sides = [set(tiles.patients[each]) for each in rows.values()]
    assert not sides[0] & sides[1]
    assert np.array_equal(tiles.test_rows(3), rows["test"])
    assert not np.array_equal(site(1).test_rows(4), site(1).test_rows(3))


def test_figures_are_few_and_rounded() -> None:
    found = judge_encoder(site(1), ("knn", "linear_probing"), FLOOR, seed=5)
    assert found is not None and set(found.balanced_accuracy) == {"knn", "linear_probing"}
    for figure in found.balanced_accuracy.values():
        assert 0.7 < figure.value <= 1 and figure.low <= figure.value <= figure.high
        assert round(figure.value, 3) == figure.value
    assert found.chance == 0.333 and found.patients % 5 == 0
    assert [each.name for each in fields(SiteFigures)] == [
        "balanced_accuracy", "classes", "chance", "patients",
    ]  # fmt: skip
    noise = judge_encoder(site(1, apart=0.0), ("knn",), FLOOR, seed=5)
    assert noise is not None and noise.balanced_accuracy["knn"].low < 1 / 3 + 0.15


def test_below_the_floor_nothing_is_said() -> None:
    few = site(1, patients=12)
    assert judge_encoder(few, ("knn",), FLOOR, seed=0) is None
    assert judge_encoder(few, ("knn",), replace(FLOOR, patients_per_class=4), seed=0) is not None
    assert judge_encoder(site(1), ("knn",), replace(FLOOR, test_tiles=1000), seed=0) is None
    probe = Probe.start(3, 32)
    assert train_step(few, probe, ProbeSettings(), FLOOR, seed=0) is None
    assert judge_probe(few, probe, FLOOR, seed=0) is None
    with pytest.raises(DataError, match="fewer than three patients"):
        site(1, patients=7).divided(0)


def test_sites_together_come_near_a_pooled_classifier() -> None:
    """FedAvg over two sites, against scikit-learn on both training parts at once."""
    sites, settings = [site(1), site(2)], ProbeSettings()
    probe, losses = Probe.start(3, 32), []
    for _ in range(8):
        steps = [train_step(each, probe, settings, FLOOR, seed=9) for each in sites]
        total = sum(step.patients for step in steps)
        mean = [
            sum(getattr(step.probe, name) * (step.patients / total) for step in steps)
            for name in ("weight", "bias")
        ]
        probe = Probe(*mean)
        losses.append(np.mean([step.loss for step in steps]))
    assert losses[0] == pytest.approx(np.log(3), abs=1e-3) and losses[-1] < losses[0] / 3
    rows = [each.training_rows(9) for each in sites]
    pooled = LogisticRegression(max_iter=1000).fit(
        np.concatenate([s.embeddings[r] for s, r in zip(sites, rows, strict=True)]),
        np.concatenate([s.labels[r] for s, r in zip(sites, rows, strict=True)]),
    )
    for each in sites:
        test = each.test_rows(9)
        peer = (pooled.predict(each.embeddings[test]) == each.labels[test]).mean()
        ours = judge_probe(each, probe, FLOOR, seed=9)
        assert ours is not None and ours.value > peer - 0.1


def test_patients_count_the_same_however_many_tiles_they_have() -> None:
    tiles = site(1)
    rows = np.concatenate([np.arange(len(tiles.labels)), np.flatnonzero(tiles.patients == 0)])
    twice = SiteTiles(tiles.embeddings[rows], tiles.labels[rows], tiles.patients[rows], 3)
    steps = [
        train_step(each, Probe.start(3, 32), ProbeSettings(), FLOOR, seed=9)
        for each in (tiles, twice)
    ]
    np.testing.assert_allclose(steps[0].probe.weight, steps[1].probe.weight, atol=1e-5)


def test_another_shape_is_refused() -> None:
    with pytest.raises(SettingsError, match="other classes or another encoder"):
        train_step(site(1), Probe.start(4, 32), ProbeSettings(), FLOOR, seed=0)
    with pytest.raises(SettingsError, match="out of range"):
        ProbeSettings(steps=0)
    with pytest.raises(DataError, match="class has no tile"):
        replace(site(1), classes=4)
