"""Finding acts again, however long ago they were done."""

from __future__ import annotations

import pytest

from hub_server.log import ActFilter, HubLog, history, search
from pixcell_share.bundles import SiteKey

COHORT = "ab" * 32


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> HubLog:
    """Thirty acts; one cohort's are the first, the last, and one between."""
    folder = tmp_path_factory.mktemp("searched")
    made = HubLog(folder / "log", SiteKey.create(folder / "hub.key"))
    for number in range(1, 31):
        if number in (1, 12, 30):
            made.append(f"cohort.state{number}", actor="hub", subject=COHORT)
        else:
            subject = f'Köln "{number}"' if number % 2 else f"Charité {number}"
            made.append("site.admit", actor="account:Änne", subject=subject, details={"of": COHORT})
    return made


def numbers(log: HubLog, about: str = "", text: str = "", **words: int | None) -> list[int]:
    return [a.sequence for a in search(log, ActFilter(about, text), **{"count": 99, **words}).acts]


def test_the_history_of_a_subject_is_whole_and_in_order(log: HubLog) -> None:
    assert [act.sequence for act in history(log, COHORT)] == [1, 12, 30]
    assert [act.sequence for act in history(log, 'Köln "3"')] == [3]
    assert history(log, "of") == [], "that is the name of a detail"


@pytest.mark.parametrize(
    ("about", "text", "found"),
    [
        ("cohort", "", [30, 12, 1]),
        ("coho", "", []),
        ("", COHORT[:9].upper(), [30, 12, 1]),
        ("", 'KÖLN "7"', [7]),
        ("", "änne", [n for n in range(30, 0, -1) if n not in (1, 12, 30)]),
        ("cohort", "Köln", []),
        ("", '"', list(range(29, 1, -2))),
    ],
)
def test_acts_are_found_by_what_they_are_about_and_by_a_word(
    log: HubLog, about: str, text: str, found: list[int]
) -> None:
    assert numbers(log, about, text) == found


def test_a_search_goes_on_where_it_stopped(log: HubLog) -> None:
    wanted, seen, before = ActFilter(text="charité"), [], None
    while True:
        found = search(log, wanted, count=5, before=before)
        seen += [act.sequence for act in found.acts]
        if found.older is None:
            break
        assert not found.cut and len(found.acts) == 5
        before = found.older
    assert seen == [n for n in range(28, 1, -2) if n != 12]


def test_a_search_says_where_it_was_cut(log: HubLog) -> None:
    found = search(log, ActFilter("cohort"), count=5, before=30, at_once=10)
    assert (list(found.acts), found.older, found.cut) == ([], 20, True)
    found = search(log, ActFilter("cohort"), count=5, before=found.older, at_once=10)
    assert ([act.sequence for act in found.acts], found.older, found.cut) == ([12], 10, True)
    found = search(log, ActFilter("cohort"), count=5, before=found.older, at_once=10)
    assert ([act.sequence for act in found.acts], found.older, found.cut) == ([1], None, False)
