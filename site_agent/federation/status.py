"""Where a site stands in a federation, from what lies in its home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pixcell_share.federation import Answer
from site_agent.federation.agent_state import AgentState
from site_agent.federation.approvals import Approvals
from site_agent.federation.places import Places
from site_agent.home import SiteHome


@dataclass(frozen=True)
class RoundSeen:
    """A round that the site answered for good."""

    round: str
    kind: str
    steps: int
    when: str
    """Of its last answer, UTC."""


@dataclass(frozen=True)
class Status:
    """What `pixcell-site status` shows."""

    agent: str
    detail: str
    since: str
    working: dict[str, str] | None
    """Round and kind of what is worked on."""
    allowed: tuple[str, ...]
    hours: str
    works_now: bool
    approved: list[str]
    rounds: list[RoundSeen]


def status_of(home: SiteHome) -> Status:
    """See `Status`.

    Raises:
        SettingsError: site.toml is wrong.
    """
    places, policy = Places(home), home.config().federation
    seen = AgentState.seen(places.agent_state)
    lost = seen is not None and seen.state != "stopped" and not seen.alive
    return Status(
        agent="killed" if lost else seen.state if seen else "never started",
        detail=seen.detail if seen else "",
        since=seen.since if seen else "",
        working=_read(places.working),
        allowed=policy.rounds,
        hours=policy.hours,
        works_now=policy.works_at(datetime.now()),
        approved=Approvals(places.approved).hashes(),
        rounds=sorted(_rounds(places.folder / "rounds"), key=lambda each: each.when),
    )


def _rounds(folder: Path) -> Iterator[RoundSeen]:
    for one in folder.glob("*"):
        answers = sorted(one.glob("answer-*.json"), key=lambda path: path.stat().st_mtime)
        if answers:
            last = json.loads(json.loads(answers[-1].read_text())["payload"])
            when = datetime.fromtimestamp(answers[-1].stat().st_mtime, UTC)
            kind = Answer.of(last).kind.value
            yield RoundSeen(one.name, kind, len(answers), when.isoformat(timespec="seconds"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found
