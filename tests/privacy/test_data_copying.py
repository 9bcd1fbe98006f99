from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.data_copying import CopyingSettings, data_copying, z_score
from tests.privacy.cohorts import constant, simulate


def test_copies_lie_far_below_zero():
    found = data_copying(simulate(leak=0.9), seed=0)
    assert found.c_t.high < -5
    assert found.cells > 1


def test_independent_tiles_lie_about_zero():
    found = [data_copying(simulate(leak=0.0, seed=s), seed=s).c_t for s in range(60)]
    assert sum(f.low > 0 or f.high < 0 for f in found) <= 9  # 5 % expected
    assert np.mean([f.value for f in found]) == pytest.approx(0.0, abs=0.6)


def test_distant_tiles_lie_above_zero():
    sample = simulate(leak=0.0)
    away = replace(sample, synthetic=(sample.synthetic * 3).astype(np.float32))
    assert data_copying(away, seed=0).c_t.low > 2


def test_interval_is_wider_where_patients_give_more_alike_tiles():
    """As many tiles, of fewer patients: a test that counts tiles would not see it."""
    many = data_copying(simulate(120, 60, leak=0.0, each=2, held=2, within=0.1), seed=0).c_t
    few = data_copying(simulate(24, 12, leak=0.0, each=10, held=10, within=0.1), seed=0).c_t
    assert few.high - few.low > 1.2 * (many.high - many.low)


def test_one_cell_is_the_plain_test():
    from scipy.spatial.distance import cdist

    sample = simulate(leak=0.3)
    found = data_copying(sample, seed=0, settings=CopyingSettings(cells=1))
    real = np.concatenate(
        [t.embeddings for t in (sample.conditioning, sample.probes, sample.holdout)]
    ).astype(np.float64)
    mean, deviation = real.mean(axis=0), real.std(axis=0)
    ours, theirs = (
        cdist((x - mean) / deviation, (sample.conditioning.embeddings - mean) / deviation).min(1)
        for x in (sample.synthetic, sample.holdout.embeddings)
    )
    assert found.c_t.value == pytest.approx(z_score(ours, theirs), abs=1e-6)
    assert found.cells == 1


def test_few_tiles_make_one_cell():
    assert data_copying(simulate(6, 4, leak=0.5), seed=0).cells == 1


def test_identical_tiles_say_nothing():
    found = data_copying(constant(), seed=0).c_t
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_sources_need_not_be_known():
    found = data_copying(replace(simulate(leak=0.9), sources=None), seed=0)
    assert found.c_t.high < -5


def test_no_holdout_is_refused():
    sample = simulate(leak=1.0)
    empty = sample.holdout.take(np.zeros(len(sample.holdout), dtype=bool))
    with pytest.raises(AuditError, match="no holdout patient"):
        data_copying(replace(sample, holdout=empty), seed=0)


def test_same_seed_same_cells():
    sample = simulate(leak=0.5)
    assert data_copying(sample, seed=3) == data_copying(sample, seed=3)
