from dataclasses import replace

import numpy as np
import pytest

from pixcell_share.errors import AuditError
from pixcell_share.privacy.encoder_control import encoder_control
from pixcell_share.privacy.linkage import LinkageSettings, patient_linkage
from pixcell_share.privacy.sample import AuditSample, Tiles
from tests.privacy.cohorts import constant, simulate


def without(sample: AuditSample, group: str, keep) -> AuditSample:
    tiles = getattr(sample, group)
    return replace(sample, **{group: tiles.take(keep(tiles))})


def test_copies_are_linked_as_far_as_the_real_tiles_are():
    sample = simulate(leak=1.0)
    found, ceiling = patient_linkage(sample, seed=0), encoder_control(sample, seed=0).ceiling
    assert found.residual.value == pytest.approx(ceiling.residual.value, abs=0.05)
    assert found.residual.low > 0.9
    assert found.auc.low > 0.9


@pytest.mark.parametrize("whiten", [True, False])
def test_independent_tiles_link_nobody_in_all_but_few_audits(whiten):
    settings = LinkageSettings(whiten=whiten)
    found = [
        patient_linkage(simulate(leak=0.0, seed=s), seed=s, settings=settings) for s in range(60)
    ]
    assert sum(f.residual.low > 0 for f in found) <= 6  # 2.5 % expected
    assert sum(f.auc.low > 0.5 or f.auc.high < 0.5 for f in found) <= 9  # 5 % expected
    assert np.mean([f.attack.value for f in found]) == pytest.approx(0.1, abs=0.04)


def test_risk_falls_as_sources_are_mixed_and_as_less_leaks():
    by_leak = [patient_linkage(simulate(leak=x), seed=0).residual.value for x in (0.8, 0.4, 0.0)]
    by_mix = [patient_linkage(simulate(leak=0.7, mix=k), seed=0).residual.value for k in (1, 4, 12)]
    assert by_leak[0] > by_leak[1] + 0.2 > by_leak[2]
    assert by_mix[0] > by_mix[1] + 0.1 > by_mix[2]


def test_control_is_the_stated_alarm():
    found = patient_linkage(simulate(leak=0.5, holdout=40), seed=0)
    assert (found.control.count, found.control.total) == (4, 40)
    found = patient_linkage(
        simulate(leak=0.5, holdout=40), seed=0, settings=LinkageSettings(alarm=0.2)
    )
    assert found.control.count == 8


def test_every_patient_is_judged_on_equally_many_tiles():
    """Ten times the tiles outside change nothing: what is held is as few as members have."""
    few = simulate(leak=0.0, seed=3)
    many = simulate(leak=0.0, each=3, held=30, seed=3)
    mixed = replace(many, probes=few.probes, conditioning=few.conditioning)
    found = patient_linkage(mixed, seed=0)
    assert found.tiles_held == 3
    assert found.residual.low == 0.0


def test_patients_with_too_few_tiles_are_left_out_and_counted():
    sample = simulate(60, 30, leak=0.5)
    starved = without(sample, "probes", lambda t: (t.patients >= 4) | (np.arange(len(t)) % 3 == 0))
    gone = without(starved, "probes", lambda t: t.patients != 10)
    found = patient_linkage(gone, seed=0)
    assert (found.tiles_held, found.left_out, found.attack.total) == (3, 5, 55)
    assert 10 not in found.members.patients


def test_attacker_holds_no_more_than_stated():
    found = patient_linkage(
        simulate(leak=0.5, held=9), seed=0, settings=LinkageSettings(tiles_held=2)
    )
    assert found.tiles_held == 2


def test_more_held_tiles_link_better():
    sample = simulate(leak=0.45, held=8, within=1.0)
    one, eight = (
        patient_linkage(sample, seed=0, settings=LinkageSettings(tiles_held=q)).auc.value
        for q in (1, 8)
    )
    assert eight > one + 0.03


@pytest.mark.parametrize("holdout", [2, 9])
def test_too_few_patients_set_aside_are_reported(holdout):
    found = patient_linkage(simulate(leak=1.0, holdout=holdout, classes=1), seed=0)
    assert not found.possible
    assert (found.attack.count, found.control.count, found.detectable) == (0, 0, 1.0)
    assert (found.residual.low, found.residual.high) == (0.0, 1.0)
    assert found.auc.value > 0.9


def test_one_patient_set_aside_cannot_be_judged():
    found = patient_linkage(simulate(leak=1.0, holdout=1, classes=1), seed=0)
    assert not found.possible
    assert found.left_out == 61
    assert (found.auc.value, found.auc.low, found.auc.high) == (0.5, 0.0, 1.0)


def test_one_patient_in_the_cohort_is_attacked_and_says_little():
    found = patient_linkage(simulate(1, 20, leak=1.0, classes=1), seed=0)
    assert found.attack.total == 1
    assert found.residual.high - found.residual.low > 0.7
    assert found.detectable > 0.7


def test_no_holdout_and_no_probe_are_refused():
    sample = simulate(leak=1.0)
    with pytest.raises(AuditError, match="no holdout patient"):
        patient_linkage(without(sample, "holdout", lambda t: t.patients < 0), seed=0)
    with pytest.raises(AuditError, match="probe"):
        patient_linkage(without(sample, "probes", lambda t: t.patients < 0), seed=0)


def test_identical_tiles_link_nobody():
    found = patient_linkage(constant(), seed=0)
    assert (found.attack.count, found.control.count) == (0, 0)
    assert (found.auc.value, found.residual.value) == (0.5, 0.0)
    control = encoder_control(constant(), seed=0)
    assert control.distinct.count == 0
    assert not control.valid


def test_encoder_that_tells_tiles_apart_is_valid():
    control = encoder_control(simulate(leak=1.0), seed=0)
    assert control.valid
    assert control.distinct.value == 1.0
    assert (control.real_tiles, control.dim) == (540, 24)


def test_encoder_that_maps_pairs_to_one_point_is_half_distinct():
    sample = simulate(10, 10, leak=1.0, each=4, held=4)
    rounded = {
        name: Tiles(np.repeat(t.embeddings[::2], 2, axis=0), t.patients, t.labels)
        for name, t in (("conditioning", sample.conditioning), ("probes", sample.probes))
    }
    control = encoder_control(replace(sample, **rounded), seed=0)
    assert control.distinct.count == len(sample.holdout)


def test_a_class_without_synthetic_tiles_is_not_judged():
    sample = simulate(leak=1.0)
    first = sample.synthetic_labels == 0
    found = patient_linkage(
        replace(
            sample,
            synthetic=sample.synthetic[first],
            synthetic_labels=sample.synthetic_labels[first],
            sources=sample.sources[first],
        ),
        seed=0,
    )
    assert set(found.members.patients % 2) == {0}
    assert found.left_out == 45


def test_a_class_with_typical_tiles_does_not_pass_for_members():
    """Class 0 is tight and lies near everything; its outsiders must not take all alarms."""
    sample = simulate(80, 40, leak=0.0, seed=5)
    squeeze = {
        name: Tiles(t.embeddings * np.where(t.labels == 0, 0.3, 1.0)[:, None], t.patients, t.labels)
        for name in ("conditioning", "probes", "holdout")
        for t in (getattr(sample, name),)
    }
    labels = sample.synthetic_labels
    synthetic = sample.synthetic * np.where(labels == 0, 0.3, 1.0)[:, None]
    found = patient_linkage(
        replace(sample, synthetic=synthetic.astype(np.float32), **squeeze),
        seed=0,
        settings=LinkageSettings(whiten=False),
    )
    declared = found.outsiders.patients[found.outsiders.declared] % 2
    assert set(declared) == {0, 1}


def test_same_seed_same_result_and_rows_may_come_in_any_order():
    sample = simulate(leak=0.5)
    first, again = patient_linkage(sample, seed=1), patient_linkage(sample, seed=1)
    assert first.members.scores.tolist() == again.members.scores.tolist()
    assert (first.residual, first.auc) == (again.residual, again.auc)
    drawn = np.random.default_rng(0).permutation(len(sample.synthetic))
    shuffled = replace(
        sample,
        synthetic=sample.synthetic[drawn],
        synthetic_labels=sample.synthetic_labels[drawn],
        sources=sample.sources[drawn],
    )
    assert patient_linkage(shuffled, seed=1).residual == first.residual
