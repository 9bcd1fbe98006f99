"""The holdout: by name alone, and no patient on both sides."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcell_share.errors import SettingsError
from pixcell_share.training.latents.entries import Entry
from pixcell_share.training.latents.split import Division, Holdout

ENTRIES = [
    Entry(f"slide-{n}", Path("x"), f"slide-{n}", case=f"case-{n // 3}" if n % 2 else "")
    for n in range(600)
]


def sides(entries: list[Entry], holdout: Holdout) -> dict[str, str]:
    division = Division(entries, holdout)
    return {entry.name: division.side(entry, (0, 0)) for entry in entries}


def test_a_case_is_on_one_side() -> None:
    found = defaultdict(set)
    for entry in ENTRIES:
        division = Division(ENTRIES, Holdout(0.3))
        for x in (0, 512):
            found[entry.case or entry.slide].add(division.side(entry, (x, 0)))
    assert {len(split) for split in found.values()} == {1}
    held = sum(split == {"holdout"} for split in found.values()) / len(found)
    assert 0.22 < held < 0.38


@given(st.permutations(ENTRIES[:40]), st.integers(0, 40))
def test_order_and_company_do_not_matter(entries: list[Entry], kept: int) -> None:
    whole = sides(ENTRIES, Holdout(0.5))
    assert all(whole[name] == side for name, side in sides(entries[:kept], Holdout(0.5)).items())


def test_a_larger_share_holds_out_more_and_nothing_less() -> None:
    small, large = sides(ENTRIES, Holdout(0.1)), sides(ENTRIES, Holdout(0.4))
    assert all(large[name] == "holdout" for name, side in small.items() if side == "holdout")
    assert set(sides(ENTRIES, Holdout(0)).values()) == {"train"}


def test_patches_are_drawn_one_by_one() -> None:
    division = Division(ENTRIES, Holdout(0.25, "patch"))
    drawn = [division.side(ENTRIES[1], (512 * n, 0)) for n in range(800)]
    assert 0.2 < drawn.count("holdout") / 800 < 0.3


def test_the_table_wins_for_the_whole_case() -> None:
    mates = [
        Entry("a", Path("x"), "a", case="p", split="holdout"),
        Entry("b", Path("x"), "b", case="p"),
        Entry("c", Path("x"), "c", split="train"),
    ]
    assert sides(mates, Holdout(0)) == {"a": "holdout", "b": "holdout", "c": "train"}
    torn = [*mates, Entry("d", Path("x"), "d", case="p", split="train")]
    with pytest.raises(SettingsError, match="puts p into both"):
        Division(torn, Holdout(0))
    assert sides(torn, Holdout(0, "patch"))["d"] == "train"


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_refusals(share: float) -> None:
    with pytest.raises(SettingsError):
        Holdout(share)
