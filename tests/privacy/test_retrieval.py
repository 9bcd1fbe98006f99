from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.retrieval import retrieval
from tests.privacy.cohorts import constant, simulate


def test_copies_lead_back_to_their_sources():
    found = retrieval(simulate(leak=1.0), seed=0)
    assert found.rank_1.value == found.rank_5.value == found.patient_1.value == 1.0
    assert found.excess.low > 0.9
    assert found.rank_1.low < 1.0  # 60 patients are no certainty
    assert (found.tiles, found.gallery) == (180, 540)


def test_independent_tiles_do_not():
    found = [retrieval(simulate(leak=0.0, seed=s), seed=s) for s in range(40)]
    assert np.mean([f.rank_1.value - f.control_1 for f in found]) == pytest.approx(0.0, abs=0.004)
    assert np.mean([f.rank_5.value - f.control_5 for f in found]) == pytest.approx(0.0, abs=0.008)
    assert sum(f.excess.low > 0 for f in found) <= 4


def test_mixing_hides_the_source():
    values = [retrieval(simulate(leak=0.7, mix=k), seed=0).excess.value for k in (1, 3, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[2] + 0.2


def test_a_near_patient_counts_though_the_tile_is_another():
    found = retrieval(simulate(leak=0.6, within=0.2), seed=0)
    assert found.patient_1.value > found.rank_1.value + 0.1


@pytest.mark.parametrize("mix", [1, 3])
def test_identical_tiles_succeed_by_chance_only(mix):
    sample = constant()
    sources = np.stack([np.arange(36), *[(np.arange(36) + 6 * j) % 36 for j in range(1, mix)]], 1)
    found = retrieval(replace(sample, sources=sources), seed=0)
    assert found.rank_1.value == pytest.approx(mix / found.gallery)
    assert found.rank_5.value == pytest.approx(
        1 - np.prod([(144 - mix - j) / (144 - j) for j in range(5)])
    )
    assert found.excess.value == pytest.approx(0.0, abs=1e-3)


def test_a_copy_that_lies_twice_in_the_gallery_is_found_half_of_the_time():
    sample = simulate(20, 12, leak=1.0)
    twins = sample.holdout.embeddings.copy()
    twins[: len(sample.conditioning)] = sample.conditioning.embeddings[: len(twins)]
    holdout = replace(sample.holdout, embeddings=twins)
    found = retrieval(replace(sample, holdout=holdout), seed=0, whiten=False)
    assert found.rank_1.value == pytest.approx(0.5)
    assert found.rank_5.value == 1.0


def test_no_other_patient_of_the_class_leaves_a_control_of_none():
    sample = simulate(1, 1, leak=1.0, classes=2)
    assert retrieval(sample, seed=0).control_1 == 0.0


def test_sources_that_are_not_known_give_no_answer():
    assert retrieval(replace(simulate(leak=1.0), sources=None), seed=0) is None


def test_no_holdout_is_refused():
    sample = simulate(leak=1.0)
    empty = sample.holdout.take(np.zeros(len(sample.holdout), dtype=bool))
    with pytest.raises(AuditError, match="no holdout patient"):
        retrieval(replace(sample, holdout=empty), seed=0)


def test_portions_do_not_matter(monkeypatch):
    sample = simulate(leak=0.5)
    whole = retrieval(sample, seed=0)
    monkeypatch.setattr("pixcell_share.privacy.retrieval._NUMBERS", 7 * 540)
    assert retrieval(sample, seed=0) == whole
