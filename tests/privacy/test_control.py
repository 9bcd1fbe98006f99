from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.bundles import AuditResult
from pixcell_share.privacy import (
    ControlSettings,
    NearCopyIndex,
    NearCopySettings,
    Share,
    fingerprint,
    run_control,
)
from pixcell_share.privacy.copy_tests import nearest_test, planted_test

SETTINGS = NearCopySettings()
FEW = ControlSettings(tiles=8)


def judged(control, pixels, encoder):
    """The tests on copies, with the verdict that they alone would give."""
    tests = (
        planted_test(control),
        nearest_test("near_copies_in_pixels", np.array(pixels), SETTINGS.pixel_limit),
        nearest_test("near_copies_in_encoder", np.array(encoder), control.encoder_limit),
    )
    if not control.valid:
        return AuditResult("INVALID", tests)
    return AuditResult("PASS" if all(test.passed for test in tests) else "REFUSE", tests)


@pytest.fixture
def control(lung_tiles, build, embed):
    index = build(lung_tiles)
    return run_control(index, lung_tiles.__getitem__, embed, seed=1, settings=FEW)


def test_every_planted_copy_of_real_tissue_is_caught(control):
    assert [kind.kind for kind in control.kinds] == list(FEW.kinds)
    assert control.caught == Share(40, 40)
    assert all(kind.by_pixels == Share(8, 8) for kind in control.kinds)
    assert control.valid


def test_the_control_is_invalid_when_the_check_is_blind(lung_tiles, build, embed):
    """An index of *other* tiles than those that are copied cannot catch the copies."""
    index = build(lung_tiles[:60])
    control = run_control(index, lambda place: lung_tiles[60 + place], embed, seed=1, settings=FEW)
    assert control.caught.value < 0.5
    assert judged(control, [0.1], [0.1]).verdict == "INVALID"


def test_the_control_is_invalid_when_nothing_can_be_recognised(embed):
    blank = np.full((20, 64, 64, 3), 240, np.uint8)
    index = NearCopyIndex()
    index.add(fingerprint(blank), embed(blank))
    control = run_control(index, blank.__getitem__, embed, seed=1)
    assert (control.examined, control.featureless, control.caught.total) == (20, 20, 0)
    assert judged(control, [0.1], [0.1]).verdict == "INVALID"


def test_blank_tiles_are_passed_over_when_planting(lung_tiles, build, embed):
    tiles = np.concatenate([np.full((60, 224, 224, 3), 240, np.uint8), lung_tiles[:60]])
    control = run_control(build(tiles), tiles.__getitem__, embed, seed=1, settings=FEW)
    assert control.featureless > 0
    assert control.caught == Share(40, 40)


def test_the_control_repeats_with_its_seed(control, lung_tiles, build, embed):
    again = run_control(build(lung_tiles), lung_tiles.__getitem__, embed, seed=1, settings=FEW)
    assert again == control


def test_verdict_passes_below_the_limits(control):
    audit = judged(control, [0.4, 0.3], [0.9, 0.8])
    assert (audit.verdict, audit.failed) == ("PASS", ())
    assert audit.tests[1].figures == {"tiles": 2, "near_copies": 0, "median": 0.35}


@pytest.mark.parametrize(
    ("pixels", "encoder", "failed"),
    [
        (SETTINGS.pixel_limit, 0.0, "near_copies_in_pixels"),
        (0.0, 1.0, "near_copies_in_encoder"),
    ],
)
def test_one_tile_at_a_limit_refuses_the_release(control, pixels, encoder, failed):
    audit = judged(control, [0.1, pixels], [0.1, encoder])
    assert (audit.verdict, audit.failed) == ("REFUSE", (failed,))


def test_a_score_that_is_not_a_number_is_refused(control):
    with pytest.raises(ValueError, match="near_copies_in_encoder: a score is not finite"):
        judged(control, [0.1], [np.nan])


def test_a_release_without_tiles_is_refused(control):
    assert judged(control, [], []).verdict == "REFUSE"


def test_a_copy_planted_by_hand_is_refused(control, lung_tiles, build, embed):
    index = build(lung_tiles[:60])
    released = np.concatenate([lung_tiles[60:64], lung_tiles[5:6, ::-1]])
    found = index.search(released, embed(released), lung_tiles.__getitem__)
    assert found[-1].near_copy
    scores = [nearest.pixel_ncc for nearest in found]
    assert judged(control, scores, np.zeros(5)).failed == ("near_copies_in_pixels",)
    assert judged(control, scores[:-1], np.zeros(4)).verdict == "PASS"


def test_the_stated_rate_is_a_limit(control):
    stricter = replace(control, required=1.01)
    assert not stricter.valid


def test_wilson_interval_agrees_with_its_formula():
    count, total, z = 29, 32, 1.959963984540054
    centre = (count + z * z / 2) / (total + z * z)
    half = z * np.sqrt(count * (total - count) / total + z * z / 4) / (total + z * z)
    assert Share(count, total).interval == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_the_figures_of_the_audit(control):
    figures = control.figures()
    assert (figures["planted"], figures["caught"], figures["blends"]) == (40, 40, 8)
    assert figures["interval_low"] == pytest.approx(Share(40, 40).interval[0], abs=1e-6)
    assert (figures["negatives"], figures["negatives_flagged"]) == (0, 0)
    assert all(np.isfinite(value) for value in figures.values())
    assert control.limits() == {"share": 0.99, "blend_share": 0.95, "negative_share": 0.01}


def test_blends_and_crops_are_reported(control):
    assert control.blends.kind == "blend 50"
    names = ["blend 10", "blend 30", "crop 0.95", "crop 0.85", "crop 0.75", "crop 0.6"]
    assert [kind.kind for kind in control.reported] == names
    caught = {kind.kind: kind.by_pixels.count for kind in control.reported}
    assert caught["crop 0.75"] >= 7
    assert caught["blend 10"] <= 1


@pytest.mark.parametrize(
    ("caught", "total", "valid"), [(32, 32, True), (28, 32, True), (27, 32, False), (5, 8, False)]
)
def test_missed_blends_make_it_invalid(control, caught, total, valid):
    from scipy.stats import binom

    missed = replace(control.blends, by_pixels=Share(caught, total))
    assert replace(control, blends=missed).valid == valid
    assert valid == (binom.cdf(caught, total, 0.95) >= 0.05)


def test_blends_may_be_with_tiles_given(lung_tiles, build, embed):
    """Blends with blank tiles are paler copies: all are caught, also with a tenth of the tile."""
    blank = np.full((64, 64, 3), 240, np.uint8)
    control = run_control(
        build(lung_tiles[:40]),
        lung_tiles.__getitem__,
        embed,
        seed=1,
        settings=FEW,
        other_tile=lambda rng: blank,
    )
    assert control.blends.by_pixels == control.reported[1].by_pixels == Share(8, 8)


def test_negatives_are_searched_without_their_own_patient(lung_tiles, build, embed):
    """Each patient has two equal tiles: only those of other patients may be found."""
    tiles = np.repeat(lung_tiles[:30], 2, axis=0)
    patients = np.repeat(np.arange(30), 2)
    more = {"holdout": range(40, 60), "patients": patients}
    index = build(tiles)
    control = run_control(index, tiles.__getitem__, embed, seed=1, settings=FEW, **more)
    assert (control.negatives, control.mistaken) == (Share(0, 8), ())
    assert control.valid
    more["patients"] = np.arange(60)
    control = run_control(index, tiles.__getitem__, embed, seed=1, settings=FEW, **more)
    assert control.negatives == Share(8, 8)
    assert {(tile, tile ^ 1) for tile, _ in control.mistaken} == set(control.mistaken)
    assert control.caught.value == 1.0
    assert not control.valid


@pytest.mark.parametrize(
    ("flagged", "total", "valid"),
    [
        (0, 0, True),
        (0, 1, True),
        (1, 5, False),
        (1, 6, True),
        (1, 32, True),
        (2, 32, False),
        (3, 100, True),
        (4, 100, False),
    ],
)
def test_chance_may_flag_a_few_negatives(control, flagged, total, valid):
    """One of five or fewer: a true share of 1 % gives that in less than 5 % of controls."""
    from scipy.stats import binom

    judged_now = replace(control, negatives=Share(flagged, total))
    assert judged_now.valid == valid
    assert valid == (flagged == 0 or binom.sf(flagged - 1, total, 0.01) >= 0.05)


def test_identical_tiles_throughout_are_invalid(lung_tiles, build, embed):
    tiles = np.repeat(lung_tiles[:1], 20, axis=0)
    control = run_control(build(tiles), tiles.__getitem__, embed, seed=1, settings=FEW)
    assert control.caught.value == 1.0
    assert not control.valid


def test_one_patient_only_has_no_negatives(lung_tiles, build, embed):
    control = run_control(
        build(lung_tiles[:10]),
        lung_tiles.__getitem__,
        embed,
        seed=1,
        settings=FEW,
        holdout=range(10),
        patients=np.zeros(10, np.int64),
    )
    assert control.negatives.total == 0
    assert control.blends is None


def test_a_constant_embedding_breaks_nothing(lung_tiles, build):
    def constant(images):
        return np.ones((len(images), 5), np.float32)

    index = NearCopyIndex()
    index.add(fingerprint(lung_tiles[:20]), constant(lung_tiles[:20]))
    control = run_control(index, lung_tiles.__getitem__, constant, seed=1, settings=FEW)
    assert control.encoder_limit == 1.0
    assert control.caught == Share(40, 40)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"holdout": [0]}, "need the patients"),
        ({"patients": np.zeros(3, np.int64)}, "3 patients for 10 real tiles"),
    ],
)
def test_patients_must_fit(lung_tiles, build, embed, more, message):
    with pytest.raises(ValueError, match=message):
        run_control(build(lung_tiles[:10]), lung_tiles.__getitem__, embed, seed=1, **more)
