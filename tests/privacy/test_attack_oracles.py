"""The attacks' arithmetic against other people's code, to one part in a million."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm

from pixcell_share.privacy.data_copying import z_score
from pixcell_share.privacy.intervals import Share
from pixcell_share.privacy.power import detectable_residual, threshold_rank, upper_bound_of_none
from pixcell_share.privacy.rates import auc
from pixcell_share.privacy.residual import Residual
from pixcell_share.privacy.retrieval import retrieval
from tests.privacy.cohorts import simulate

CLOSE = {"rel": 1e-6, "abs": 1e-6}


def distances(seed: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.gamma(2.0, 1.0, 80), 1.2 * rng.gamma(2.0, 1.0, 55)
    return (np.round(ours, 1), np.round(theirs, 1)) if tied else (ours, theirs)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_z_score_is_that_of_scipy(seed, tied):
    """scipy gives p-values; z follows from the one-sided one."""
    ours, theirs = distances(seed, tied)
    peer = mannwhitneyu(ours, theirs, method="asymptotic", use_continuity=False, alternative="less")
    assert z_score(ours, theirs) == pytest.approx(norm.ppf(peer.pvalue), **CLOSE)
    assert auc(ours, theirs) * ours.size * theirs.size == pytest.approx(peer.statistic, **CLOSE)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_area_is_that_of_sklearn(seed, tied):
    metrics = pytest.importorskip("sklearn.metrics")
    ours, theirs = distances(seed, tied)
    truth = np.repeat([1, 0], [ours.size, theirs.size])
    peer = metrics.roc_auc_score(truth, np.concatenate([ours, theirs]))
    assert auc(ours, theirs) == pytest.approx(peer, **CLOSE)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (37, 512), (1, 1)])
def test_interval_of_a_share_is_that_of_statsmodels(count, total):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    peer = proportion.proportion_confint(count, total, method="wilson")
    assert Share(count, total).interval == pytest.approx(peer, **CLOSE)


def test_residual_is_newcombes_interval_where_the_control_is_known_to_be_none():
    """With no alarm among very many, R is the attack rate, and its interval Wilson's."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    found = Residual(Share(30, 100), Share(0, 10**9)).estimate
    peer = proportion.proportion_confint(30, 100, method="wilson")
    assert (found.low, found.high) == pytest.approx(peer, **CLOSE)


@pytest.mark.parametrize(("hits", "total", "alarms", "outside"), [(40, 90, 5, 50), (7, 60, 3, 31)])
def test_residual_of_equal_rates_matches_newcombes_difference(hits, total, alarms, outside):
    """Where a is near c, R (1 - c) is a - c, whose square-and-add interval statsmodels has."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    found = Residual(Share(hits, total), Share(alarms, outside)).raw
    low, high = proportion.confint_proportions_2indep(
        hits, total, alarms, outside, compare="diff", method="newcomb", correction=False
    )
    a, c = hits / total, alarms / outside
    lower, upper = Share(alarms, outside).interval
    attack = Share(hits, total).interval
    # the same parts, the control's weighted by (1 - a) / (1 - c) as the derivative asks
    weight = (1 - a) / (1 - c)
    parts = np.hypot(a - attack[0], upper - c), np.hypot(attack[1] - a, c - lower)
    assert (a - c - parts[0], a - c + parts[1]) == pytest.approx((low, high), **CLOSE)
    assert found.low * (1 - c) == pytest.approx(
        a - c - np.hypot(a - attack[0], weight * (upper - c)), **CLOSE
    )


def test_bound_of_none_is_clopper_pearsons():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for patients in (5, 60, 700):
        peer = proportion.proportion_confint(0, patients, alpha=0.10, method="beta")[1]
        assert upper_bound_of_none(patients) == pytest.approx(peer, **CLOSE)


def test_power_has_the_closed_form_of_two_shares_where_it_is_large():
    """Very many patients: the binomials are normal, and the threshold is exact."""
    patients, holdout = 40_000, 40_000
    rank = threshold_rank(holdout)
    found = detectable_residual(patients, holdout)
    deviation = np.sqrt(0.09 / patients + 0.09 / holdout) / 0.9
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * deviation
    assert rank == 4000
    assert found == pytest.approx(expected, abs=2 / 4096)


@pytest.mark.parametrize("mix", [1, 3])
def test_retrieval_ranks_are_those_of_full_distances(mix):
    sample = simulate(20, 12, leak=0.4, mix=mix, seed=3)
    found = retrieval(sample, seed=0, whiten=False)
    groups = (sample.conditioning, sample.probes, sample.holdout)
    gallery = np.concatenate([group.embeddings for group in groups])
    order = cdist(sample.synthetic, gallery).argsort(axis=1)
    hits = [[np.isin(order[i, :k], s).any() for i, s in enumerate(sample.sources)] for k in (1, 5)]
    assert found.rank_1.value == pytest.approx(np.mean(hits[0]), **CLOSE)
    assert found.rank_5.value == pytest.approx(np.mean(hits[1]), **CLOSE)
    assert 0.0 < found.rank_1.value < found.rank_5.value


def test_retrieval_control_is_what_draws_of_other_tiles_give():
    sample = simulate(16, 10, leak=0.4, mix=2, seed=4)
    found = retrieval(sample, seed=0, whiten=False)
    groups = (sample.conditioning, sample.probes, sample.holdout)
    gallery, patients, labels = (
        np.concatenate([getattr(group, name) for group in groups])
        for name in ("embeddings", "patients", "labels")
    )
    rng, hits = np.random.default_rng(0), []
    for row, sources in enumerate(sample.sources):
        rest = np.delete(np.arange(len(gallery)), sources)
        near = rest[cdist(sample.synthetic[row : row + 1], gallery[rest])[0].argsort()[:5]]
        same = labels == sample.synthetic_labels[row]
        place = np.flatnonzero(same & ~np.isin(patients, sample.conditioning.patients[sources]))
        drawn = rng.choice(place, (4000, 2))
        hits.append(np.isin(drawn, near).any(axis=1).mean())
    assert found.control_5 == pytest.approx(np.mean(hits), abs=0.003)
