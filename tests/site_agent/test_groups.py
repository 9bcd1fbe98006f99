"""Patients are set aside whole, of each class alike, and by the key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixcell_share.bundles import SiteKey
from pixcell_share.slides import SlideRecord
from site_agent.groups import Groups, conditioning_tiles, probe_tiles, split_patients
from site_agent.run_folder import SlideState


@pytest.fixture
def key(tmp_path: Path) -> SiteKey:
    return SiteKey.create(tmp_path / "site.key")


def slides(classes: dict[str, int], each: int = 2) -> list[SlideRecord]:
    """``each`` slides of every patient."""
    return [
        SlideRecord(f"{label}-{number}-{turn}", Path("x.svs"), None, f"{label}-{number}", label)
        for label, count in classes.items()
        for number in range(count)
        for turn in range(each)
    ]


def sizes(groups: Groups) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in groups.holdout:
        label = name.split("-")[0]
        found[label] = found.get(label, 0) + 1
    return found


def test_each_class_gives_its_share(key: SiteKey) -> None:
    groups = split_patients(slides({"a": 20, "b": 10, "c": 5}), 0.2, key)
    assert sizes(groups) == {"a": 4, "b": 2, "c": 1}
    assert not set(groups.cohort) & set(groups.holdout)
    assert len(groups.patients) == 35


def test_a_share_is_rounded_up(key: SiteKey) -> None:
    assert len(split_patients(slides({"a": 6, "b": 5}), 0.2, key).holdout) == 3


def test_a_class_keeps_a_patient_while_another_can_give(key: SiteKey) -> None:
    groups = split_patients(slides({"a": 1, "b": 4}), 0.5, key)
    assert sizes(groups) == {"b": 3}


def test_one_patient_stays_in_the_cohort(key: SiteKey) -> None:
    groups = split_patients(slides({"a": 1}), 0.2, key)
    assert (len(groups.cohort), len(groups.holdout)) == (1, 0)


def test_two_patients_of_two_classes_give_one(key: SiteKey) -> None:
    groups = split_patients(slides({"a": 1, "b": 1}), 0.2, key)
    assert (len(groups.cohort), len(groups.holdout)) == (1, 1)


def test_the_key_decides(key: SiteKey, tmp_path: Path) -> None:
    records = slides({"a": 40})
    other = SiteKey.create(tmp_path / "other.key")
    assert split_patients(records, 0.2, key) == split_patients(records[::-1], 0.2, key)
    assert split_patients(records, 0.2, key) != split_patients(records, 0.2, other)


def test_without_a_table_every_slide_is_a_patient(key: SiteKey) -> None:
    records = [SlideRecord(f"s{number}", Path("x.svs")) for number in range(10)]
    groups = split_patients(records, 0.2, key)
    assert len(groups.holdout) == 2
    assert sum(groups.conditions(record) for record in records) == 8


@pytest.mark.parametrize(("tiles", "probes"), [(0, 0), (1, 0), (2, 1), (7, 1), (20, 4), (900, 8)])
def test_some_tiles_condition_nothing(key: SiteKey, tiles: int, probes: int) -> None:
    state = SlideState(slide_id="s", source={}, tiles=tiles)
    aside, used = probe_tiles(state, key), conditioning_tiles(state, None, key)
    assert len(aside) == probes
    assert sorted([*aside, *used]) == list(range(tiles))


def test_a_limit_takes_fewer_of_the_same(key: SiteKey) -> None:
    state = SlideState(slide_id="s", source={}, tiles=100)
    few, all_of_them = conditioning_tiles(state, 10, key), conditioning_tiles(state, None, key)
    assert len(few) == 10
    assert np.isin(few, all_of_them).all()
    assert not np.isin(few, probe_tiles(state, key)).any()
