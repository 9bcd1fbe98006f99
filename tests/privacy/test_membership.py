"""Membership inference: the curve against scikit-learn, the intervals against repetition."""

from __future__ import annotations

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.membership import Curve, clid_score, curve, infer_membership
from pixcell_share.privacy.membership_scores import MembershipScores

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra `peers`")
preprocessing = pytest.importorskip("sklearn.preprocessing")


def groups(rng: np.random.Generator, shift: float, patients: int, tiles: int, decimals: int = 8):
    """Scores of members and others, with a part that tiles of one patient share."""
    found = []
    for number, up in enumerate((shift, 0.0)):
        owner = np.repeat(np.arange(patients), tiles)
        scores = up + 0.5 * rng.normal(size=patients)[owner] + rng.normal(size=len(owner))
        found += [np.round(scores, decimals), owner + 10_000 * number]
    return found


@pytest.mark.parametrize("decimals", [8, 1, 0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize(("patients", "tiles"), [(60, 5), (7, 3), (1100, 1)])
def test_the_curve_is_that_of_scikit_learn(decimals, patients, tiles) -> None:
    mine, own, theirs, others = groups(np.random.default_rng(1), 0.7, patients, tiles, decimals)
    found = curve(mine, own, theirs, others, seed=0, draws=50)
    truth = np.repeat([1, 0], [len(mine), len(theirs)])
    scores = np.concatenate([mine, theirs])
    assert found.auc.value == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-6)
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert found.tpr_1.value == pytest.approx(true[false <= 0.01].max(), abs=1e-6)
    assert found.tpr_01.value == pytest.approx(true[false <= 0.001].max(), abs=1e-6)


def test_each_draw_is_the_curve_of_the_patients_drawn() -> None:
    from pixcell_share.privacy.bootstrap import Resample
    from pixcell_share.privacy.membership import _Ranks

    rng = np.random.default_rng(3)
    mine, own, theirs, others = groups(rng, 0.7, 40, 4, decimals=1)
    one, two = Resample.of(own, rng, 5), Resample.of(others, rng, 5)
    found = _Ranks(mine, theirs).resampled(one, two)[1:]
    for draw in range(5):
        part = slice(draw, draw + 1)
        again = np.repeat(mine, one.of_tiles(part)[0].astype(int))
        control = np.repeat(theirs, two.of_tiles(part)[0].astype(int))
        truth = np.repeat([1, 0], [len(again), len(control)])
        false, true, _ = metrics.roc_curve(truth, np.concatenate([again, control]),
                                           drop_intermediate=False)  # fmt: skip
        auc = metrics.roc_auc_score(truth, np.concatenate([again, control]))
        expected = [auc, true[false <= 0.01].max(), true[false <= 0.001].max()]
        assert found[draw] == pytest.approx(expected, abs=1e-9)


def test_the_interval_covers_the_truth_although_tiles_cluster() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for repetition in range(100):
        found = curve(*groups(rng, 0.0, 25, 8), seed=repetition, draws=300)
        covered += found.auc.low <= 0.5 <= found.auc.high
    assert covered >= 87  # 95 % nominal; three standard deviations below are 88
    assert covered < 100


def test_tiles_of_one_patient_are_no_independent_evidence() -> None:
    mine, own, theirs, others = groups(np.random.default_rng(2), 0.3, 20, 30)
    by_patient = curve(mine, own, theirs, others, seed=0).auc
    by_tile = curve(mine, np.arange(600), theirs, 1000 + np.arange(600), seed=0).auc
    assert by_patient.value == by_tile.value
    assert by_patient.high - by_patient.low > 1.5 * (by_tile.high - by_tile.low)


@pytest.mark.parametrize(
    ("others", "one", "tenth"), [(99, False, False), (100, True, False), (1000, True, True)]
)
def test_what_cannot_be_resolved_is_said(others: int, one: bool, tenth: bool) -> None:
    theirs = np.linspace(0, 1, others)
    mine = np.array([0.5, 1.0, 1.5, 2.0])  # the second is as large as the largest of the others
    found = curve(mine, np.arange(4), theirs, 9 + np.arange(others), seed=0, draws=20)
    assert (found.resolvable_1, found.resolvable_01) == (one, tenth)
    assert found.tpr_01.value == (0.75 if tenth else 0.5)
    assert found.tpr_1.value == (0.75 if one else 0.5)


def test_nobody_found_is_no_proof_that_nobody_can_be_found() -> None:
    found = curve(np.zeros(40), np.arange(40) // 4, np.ones(30), 99 + np.arange(30), seed=0)
    assert (found.tpr_1.value, found.tpr_1.low) == (0, 0)
    assert found.tpr_1.high == pytest.approx(1 - 0.05 ** (1 / 10))  # ten patients: rule of three


def test_constant_scores_say_nothing() -> None:
    found = curve(np.ones(30), np.arange(30), np.ones(40), 99 + np.arange(40), seed=0)
    assert (found.auc.value, found.auc.low, found.auc.high) == (0.5, 0.5, 0.5)
    assert found.tpr_1.value == 0


def test_the_same_seed_gives_the_same_interval() -> None:
    given = groups(np.random.default_rng(2), 0.3, 20, 3)
    assert curve(*given, seed=4) == curve(*given, seed=4)
    assert curve(*given, seed=4) != curve(*given, seed=5)


def scores(rng: np.random.Generator, count: int, gain: float = 0.0) -> MembershipScores:
    return MembershipScores(rng.gamma(9, 0.05, count), 0.01 * rng.normal(gain, 1, count))


def test_clid_scales_as_scikit_learns_robust_scaler() -> None:
    rng = np.random.default_rng(0)
    member, other = scores(rng, 31), scores(rng, 20)
    mine, theirs = clid_score(member, other)

    def scaled(values: np.ndarray) -> np.ndarray:
        return preprocessing.RobustScaler().fit_transform(values[:, None])[:, 0]

    gain = scaled(np.concatenate([member.gain, other.gain]))
    loss = scaled(-np.concatenate([member.loss, other.loss]))
    assert np.concatenate([mine, theirs]) == pytest.approx(0.9 * gain + 0.1 * loss, abs=1e-9)


def test_clid_finds_what_the_loss_alone_does_not() -> None:
    rng = np.random.default_rng(0)
    member, other = scores(rng, 300, gain=3), scores(rng, 300)
    found = infer_membership(member, np.arange(300) // 3, other, 1000 + np.arange(300) // 3, seed=0)
    assert found.loss.auc.low < 0.5 < found.loss.auc.high
    assert found.clid.auc.low > 0.9
    assert (found.members, found.member_patients) == (300, 100)
    assert (found.nonmembers, found.nonmember_patients) == (300, 100)


def test_figures_have_the_names_of_the_audit() -> None:
    rng = np.random.default_rng(0)
    found = infer_membership(
        scores(rng, 30), np.arange(30), scores(rng, 20), 99 + np.arange(20), seed=0
    )
    figures = found.figures()
    rates = [f"{rate}{end}" for rate in ("auc", "tpr_1", "tpr_01") for end in ("", "_low", "_high")]
    expected = {f"{score}_{rate}" for score in ("loss", "clid") for rate in rates}
    assert set(figures) == {"members", "nonmembers"} | expected
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["clid_auc_high"] == found.clid.auc.high


def test_bad_groups_are_refused() -> None:
    rng = np.random.default_rng(0)
    some, none = scores(rng, 4), scores(rng, 0)
    four, nobody = np.arange(4), np.empty(0, np.int64)
    with pytest.raises(AuditError, match="0 others"):
        infer_membership(some, four, none, nobody, seed=0)
    with pytest.raises(AuditError, match="0 members"):
        infer_membership(none, nobody, some, four, seed=0)
    with pytest.raises(AuditError, match="1 patients"):
        infer_membership(some, four, some, four + 3, seed=0)
    bad = MembershipScores(np.array([1.0, np.nan, 1, 1]), some.gain)
    with pytest.raises(AuditError, match="not finite"):
        infer_membership(bad, four, some, four + 9, seed=0)


def test_a_curve_is_plain_numbers() -> None:
    found = curve(np.arange(5.0), np.arange(5), np.arange(4.0), 9 + np.arange(4), seed=0)
    assert isinstance(found, Curve)
    assert all(type(value) is float for value in found.figures("loss").values())
