"""What the log says about one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from hub_server.log import Act, HubLog
from hub_server.registry import Cohort

_AT_ONCE = 500
_MOST_READ = 20_000
"""Acts that are looked through for one page: a hub of fifty sites makes as many in some months."""


def acts_of(
    log: HubLog, wanted: Callable[[Act], bool], count: int, before: int | None = None
) -> list[Act]:
    """Acts that are wanted, the latest first.

    Args:
        log: the hub's.
        wanted: which ones.
        count: how many at most.
        before: only those of a lower sequence number.
    """
    found = (act for act in islice(_backwards(log, before), _MOST_READ) if wanted(act))
    return list(islice(found, count))


def history_of(log: HubLog, cohort: Cohort) -> list[Act]:
    """What became of a cohort, in order."""
    acts = acts_of(log, lambda act: act.subject == cohort.id, 100)
    return acts[::-1]


def _backwards(log: HubLog, before: int | None) -> Iterator[Act]:
    while acts := log.latest(_AT_ONCE, before):
        yield from acts
        before = acts[-1].sequence
