"""Look for acts in a log of any length: a line is read only where its bytes may fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub_server.log.act import Act, read_act
from hub_server.log.hub_log import HubLog
from pixcell_share.files import canonical_json

_AT_ONCE = 200_000
"""Acts that one search goes through: some tenths of a second."""


@dataclass(frozen=True)
class ActFilter:
    """Which acts somebody looks for."""

    about: str = ""
    """The first word of their names, such as ``site``; empty: any."""
    text: str = ""
    """A word in act, actor or subject, in whatever case; empty: any."""

    def takes(self, act: Act) -> bool:
        """Whether it fits."""
        shown = f"{act.act} {act.actor} {act.subject}".casefold()
        return (not self.about or act.act.startswith(f"{self.about}.")) and self._word in shown

    def may_take(self, line: bytes) -> bool:
        """Whether the act of a line may fit; much faster than reading it."""
        if self.about and f'"act":"{self.about}.'.encode() not in line:
            return False
        quoted = canonical_json(self._word).decode()[1:-1]
        return not quoted or quoted in line.decode().casefold()

    @property
    def _word(self) -> str:
        return self.text.strip().casefold()


@dataclass(frozen=True)
class FoundActs:
    """What a search found."""

    acts: Sequence[Act]
    """The latest first."""
    older: int | None
    """A search before this number goes on; None: the log was searched to its beginning."""
    cut: bool
    """Whether it stopped because it had gone through so many acts, not found so many."""


def search(
    log: HubLog, wanted: ActFilter, count: int, before: int | None = None, at_once: int = _AT_ONCE
) -> FoundActs:
    """Acts that fit, the latest first.

    Args:
        log: the hub's.
        wanted: which ones.
        count: how many at most.
        before: only those of a lower sequence number.
        at_once: how many acts to go through at most.

    Raises:
        HubLogError: the files are not what this hub wrote.
    """
    found: list[Act] = []
    for gone, (number, line) in enumerate(log.lines(before)):
        if len(found) == count or gone == at_once:
            return FoundActs(found, number + 1, cut=len(found) < count)
        if wanted.may_take(line) and wanted.takes(act := read_act(line, number)):
            found.append(act)
    return FoundActs(found, None, cut=False)


def history(log: HubLog, subject: str) -> list[Act]:
    """Every act about ``subject``, from the first on, however long ago.

    Raises:
        HubLogError: the files are not what this hub wrote.
    """
    needle = b'"subject":' + canonical_json(subject)
    acts = [read_act(line, number) for number, line in log.lines() if needle in line]
    return [act for act in reversed(acts) if act.subject == subject]
