from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.privacy import (
    ControlSettings,
    NearCopyIndex,
    NearCopySettings,
    Nearest,
    Share,
    fingerprint,
    first_checks,
    run_control,
)

SETTINGS = NearCopySettings()
FEW = ControlSettings(tiles=8)


def scored(pixel_ncc, embedding_similarity):
    return Nearest(0, pixel_ncc, "identity", 0, embedding_similarity, near_copy=False)


@pytest.fixture
def control(lung_tiles, build, embed):
    index = build(lung_tiles)
    return run_control(index, lung_tiles.__getitem__, embed, seed=1, settings=FEW)


def test_every_planted_copy_of_real_tissue_is_caught(control):
    assert [kind.kind for kind in control.kinds] == ["exact", "flipped", "rotated", "JPEG 60"]
    assert control.caught == Share(32, 32)
    assert all(kind.by_pixels == Share(8, 8) for kind in control.kinds)
    assert control.valid


def test_the_control_is_invalid_when_the_check_is_blind(lung_tiles, build, embed):
    """An index of *other* tiles than those that are copied cannot catch the copies."""
    index = build(lung_tiles[:60])
    control = run_control(index, lambda place: lung_tiles[60 + place], embed, seed=1, settings=FEW)
    assert control.caught.value < 0.5
    assert first_checks([scored(0.1, 0.1)], control, SETTINGS).verdict == "INVALID"


def test_the_control_is_invalid_when_nothing_can_be_recognised(embed):
    blank = np.full((20, 64, 64, 3), 240, np.uint8)
    index = NearCopyIndex()
    index.add(fingerprint(blank), embed(blank))
    control = run_control(index, blank.__getitem__, embed, seed=1)
    assert (control.examined, control.featureless, control.caught.total) == (20, 20, 0)
    assert first_checks([scored(0.1, 0.1)], control, SETTINGS).verdict == "INVALID"


def test_blank_tiles_are_passed_over_when_planting(lung_tiles, build, embed):
    tiles = np.concatenate([np.full((60, 224, 224, 3), 240, np.uint8), lung_tiles[:60]])
    control = run_control(build(tiles), tiles.__getitem__, embed, seed=1, settings=FEW)
    assert control.featureless > 0
    assert control.caught == Share(32, 32)


def test_the_control_repeats_with_its_seed(control, lung_tiles, build, embed):
    again = run_control(build(lung_tiles), lung_tiles.__getitem__, embed, seed=1, settings=FEW)
    assert again == control


def test_verdict_passes_below_the_limits(control):
    audit = first_checks([scored(0.5, 0.9), scored(0.3, 0.8)], control, SETTINGS)
    assert (audit.verdict, audit.failed) == ("PASS", ())
    assert audit.tests[1].figures == {"tiles": 2, "near_copies": 0, "median": 0.4}


@pytest.mark.parametrize(
    ("nearest", "failed"),
    [
        (scored(SETTINGS.pixel_limit, 0.0), "near_copies_in_pixels"),
        (scored(0.0, SETTINGS.embedding_limit), "near_copies_in_encoder"),
    ],
)
def test_one_tile_at_a_limit_refuses_the_release(control, nearest, failed):
    audit = first_checks([scored(0.1, 0.1), nearest], control, SETTINGS)
    assert (audit.verdict, audit.failed) == ("REFUSE", (failed,))


def test_a_release_without_tiles_is_refused(control):
    assert first_checks([], control, SETTINGS).verdict == "REFUSE"


def test_a_copy_planted_by_hand_is_refused(control, lung_tiles, build, embed):
    index = build(lung_tiles[:60])
    released = np.concatenate([lung_tiles[60:64], lung_tiles[5:6, ::-1]])
    found = index.search(released, embed(released), lung_tiles.__getitem__)
    assert [nearest.near_copy for nearest in found][-1]
    assert "near_copies_in_pixels" in first_checks(found, control, SETTINGS).failed


def test_the_stated_rate_is_a_limit(control):
    stricter = replace(control, required=1.01)
    assert not stricter.valid


def test_wilson_interval_agrees_with_its_formula():
    count, total, z = 29, 32, 1.959963984540054
    centre = (count + z * z / 2) / (total + z * z)
    half = z * np.sqrt(count * (total - count) / total + z * z / 4) / (total + z * z)
    assert Share(count, total).interval == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert Share(0, 0).interval == (0.0, 1.0)
