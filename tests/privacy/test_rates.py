import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.privacy.rates import auc, auc_by_patient, left_out_ranks, outside_ranks

scores = st.lists(st.integers(-5, 5), min_size=1, max_size=30).map(
    lambda found: np.asarray(found, dtype=np.float64)
)


@given(scores, scores)
def test_ranks_are_counted_one_by_one(ours, theirs):
    expected = [(1 + sum(t >= s for t in theirs)) / (1 + len(theirs)) for s in ours]
    assert outside_ranks(ours, theirs).tolist() == pytest.approx(expected)


@given(scores)
def test_a_patient_left_out_is_judged_by_the_others(theirs):
    expected = [
        (1 + sum(t >= s for j, t in enumerate(theirs) if j != i)) / len(theirs)
        for i, s in enumerate(theirs)
    ]
    assert left_out_ranks(theirs).tolist() == pytest.approx(expected)


def test_ranks_of_outsiders_are_valid():
    """A patient from the same population passes alpha at most as often as alpha."""
    rng = np.random.default_rng(0)
    ranks = [outside_ranks(rng.random(1), rng.random(19))[0] for _ in range(4000)]
    for alpha in (0.05, 0.1, 0.3):
        assert np.mean(np.asarray(ranks) <= alpha + 1e-9) == pytest.approx(alpha, abs=0.03)


@given(scores, scores)
def test_area_counts_pairs_and_halves_ties(ours, theirs):
    pairs = [(s > t) + 0.5 * (s == t) for s in ours for t in theirs]
    assert auc(ours, theirs) == pytest.approx(np.mean(pairs))


def test_drawn_areas_are_those_of_the_drawn_scores():
    """The weighted form against scores repeated as often as their patient was drawn."""
    from pixcell_share.privacy.bootstrap import Resample
    from pixcell_share.privacy.rates import drawn_auc

    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 6, 30) / 1.0, rng.integers(0, 5, 40) / 1.0
    mine = Resample.of(np.repeat(np.arange(10), 3), rng, 25)
    other = Resample.of(np.repeat(np.arange(8), 5), rng, 25)
    found = drawn_auc(ours, theirs, mine, other)
    for draw in range(25):
        repeated = np.repeat(ours, mine.of_tiles()[draw].astype(int))
        against = np.repeat(theirs, other.of_tiles()[draw].astype(int))
        assert found[draw] == pytest.approx(auc(repeated, against))


def test_interval_of_the_area_covers_and_is_wider_for_clustered_scores():
    rng = np.random.default_rng(4)
    people = np.repeat(np.arange(30), 4)
    covered, truth = 0, 0.76025  # Phi(1 / sqrt 2) of two normal populations one deviation apart
    for seed in range(120):
        ours = 1.0 + rng.standard_normal(30)[people]
        theirs = rng.standard_normal(30)[people]
        found = auc_by_patient(ours, theirs, people, people, seed=seed, draws=300)
        covered += found.low <= truth <= found.high
    assert covered >= 0.87 * 120
    alone = auc_by_patient(ours, theirs, np.arange(120), np.arange(120), seed=0)
    assert alone.high - alone.low < 0.8 * (found.high - found.low)


def test_equal_scores_are_worth_one_half():
    ones = np.ones(12)
    found = auc_by_patient(ones, ones, np.arange(12), np.arange(12), seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_perfect_separation_is_not_certain():
    found = auc_by_patient(np.ones(20), np.zeros(20), np.arange(20), np.arange(20), seed=0)
    assert found.value == 1.0
    assert found.low == pytest.approx(0.05 ** (1 / 20))
