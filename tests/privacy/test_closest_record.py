from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.closest_record import ClosestSettings, closest_record
from tests.privacy.cohorts import constant, simulate


def test_copies_are_nearer_to_the_cohort():
    found = closest_record(simulate(leak=0.9), seed=0)
    assert found.nearer.low > 0.9
    assert found.ratio < 0.3 < found.ratio_control


def test_independent_tiles_are_as_near_to_both():
    found = [closest_record(simulate(leak=0.0, seed=s), seed=s) for s in range(30)]
    assert np.mean([f.nearer.value for f in found]) == pytest.approx(0.5, abs=0.05)
    assert sum(f.nearer.low > 0.5 or f.nearer.high < 0.5 for f in found) <= 4
    apart = [f.ratio - f.ratio_control for f in found]
    assert np.mean(apart) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(("patients", "holdout"), [(120, 20), (20, 120)])
def test_groups_of_other_sizes_make_no_difference(patients, holdout):
    """Against all tiles of the larger group, nearly all would be nearer to that."""
    found = [
        closest_record(simulate(patients, holdout, leak=0.0, seed=s), seed=s).nearer.value
        for s in range(12)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_patients_with_more_tiles_outside_make_no_difference():
    few, many = simulate(leak=0.0, seed=2), simulate(leak=0.0, held=20, seed=2)
    mixed = replace(many, conditioning=few.conditioning, probes=few.probes)
    found = closest_record(mixed, seed=0).nearer
    assert found.low < 0.5 < found.high


def test_mixing_takes_the_share_back():
    values = [closest_record(simulate(leak=0.6, mix=k), seed=0).nearer.value for k in (1, 10)]
    assert values[0] > values[1] + 0.1


def test_sources_need_not_be_known():
    assert closest_record(replace(simulate(leak=0.9), sources=None), seed=0).nearer.value > 0.6


def test_limits_on_sizes_bound_the_work_not_the_answer():
    settings = ClosestSettings(tiles=2, patients=15, synthetic=40)
    found = closest_record(simulate(leak=0.9), seed=0, settings=settings)
    assert found.nearer.low > 0.8


def test_identical_tiles_are_undecided():
    found = closest_record(constant(), seed=0)
    assert (found.nearer.value, found.ratio, found.ratio_control) == (0.5, 1.0, 1.0)


def test_one_patient_and_no_holdout_are_refused():
    with pytest.raises(AuditError, match="one patient only"):
        closest_record(simulate(1, 5, leak=1.0, classes=1), seed=0)
    sample = simulate(leak=1.0)
    empty = sample.holdout.take(np.zeros(len(sample.holdout), dtype=bool))
    with pytest.raises(AuditError, match="no holdout patient"):
        closest_record(replace(sample, holdout=empty), seed=0)


def test_same_seed_same_sets():
    sample = simulate(leak=0.5)
    assert closest_record(sample, seed=3) == closest_record(sample, seed=3)
