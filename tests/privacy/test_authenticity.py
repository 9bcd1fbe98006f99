from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.authenticity import authenticity
from tests.privacy.cohorts import constant, simulate


def test_copies_are_not_authentic():
    found = authenticity(simulate(leak=0.95), seed=0)
    assert found.authentic.high < 0.1 < found.control.low


def test_independent_tiles_are_as_authentic_as_real_ones():
    apart = []
    for seed in range(30):
        found = authenticity(simulate(leak=0.0, seed=seed), seed=seed)
        apart.append(found.authentic.value - found.control.value)
    assert np.mean(apart) == pytest.approx(0.0, abs=0.04)


def test_every_comparison_is_the_one_that_is_defined():
    from scipy.spatial.distance import cdist

    sample = simulate(12, 8, leak=0.4)
    real = np.concatenate(
        [t.embeddings for t in (sample.conditioning, sample.probes, sample.holdout)]
    ).astype(np.float64)
    rows = (sample.conditioning.embeddings - real.mean(axis=0)) / real.std(axis=0)
    queries = (sample.synthetic - real.mean(axis=0)) / real.std(axis=0)
    people = sample.conditioning.patients
    expected = []
    for query in queries:
        distances = cdist(query[None], rows)[0]
        nearest = distances.argmin()
        others = cdist(rows[nearest][None], rows[people != people[nearest]])[0]
        expected.append(distances[nearest] > others.min())
    assert authenticity(sample, seed=0).authentic.value == pytest.approx(np.mean(expected))


def test_tiles_of_the_same_patient_do_not_vouch():
    """Each patient's tiles nearly alike: with them as the others, all would be authentic."""
    found = authenticity(simulate(leak=0.8, within=0.01), seed=0)
    assert found.authentic.value < 0.1


def test_identical_tiles_are_undecided():
    found = authenticity(constant(), seed=0)
    assert found.authentic.value == found.control.value == 0.5


def test_one_patient_and_no_holdout_are_refused():
    with pytest.raises(AuditError, match="one patient only"):
        authenticity(simulate(1, 5, leak=1.0, classes=1), seed=0)
    sample = simulate(leak=1.0)
    empty = sample.holdout.take(np.zeros(len(sample.holdout), dtype=bool))
    with pytest.raises(AuditError, match="no holdout patient"):
        authenticity(replace(sample, holdout=empty), seed=0)
