"""Rounds on disk: what was asked, and what each site answered, as it was signed.

This is the hub's checkpoint. A run of Flower that dies is started again with the same round, and
asks only the sites that have not answered; so a round goes on, and no answer counts twice.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub_server.federation.kept_arrays import Arrays, keep_start
from hub_server.federation.places import Places
from pixcell_share.errors import NotFoundError
from pixcell_share.federation import Answer, RoundKind, Sealed
from pixcell_share.files import atomic_write_text


@dataclass(frozen=True)
class Round:
    """What a hub wants of its sites."""

    id: str
    kind: RoundKind
    ask: Mapping[str, Any]
    expected: int = 0
    """Sites that the hub counts on; the round ends when so many have answered every step."""
    wait_s: float = 3600.0
    """How long answers are waited for; who has not answered then did not take part."""
    gather_s: float = 20.0
    """How long fewer sites than expected are waited for, once all that are there have answered."""
    return_s: float = 120.0
    """How long a site is waited for that was asked and got lost: Flower takes a node that broke
    down for present, and refuses it, for up to a minute."""
    opened: str = ""
    """When, UTC."""
    state: str = "open"
    """``open``, ``done`` or ``failed``."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What the kind makes of the answers."""


@dataclass(frozen=True)
class Heard:
    """A site's answer, checked."""

    site: str
    """The name that the registry knows the signer by."""
    answer: Answer
    signer: str = ""
    """The public key that it is signed with, in PEM."""


class RoundFolder:
    """One round of a hub.

    Args:
        folder: its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def begin(
        cls,
        rounds: Path,
        kind: RoundKind,
        ask: Mapping[str, Any],
        arrays: Arrays | None = None,
        **how: Any,
    ) -> Round:
        """Write down a new round; what goes along first, since a round that is there may run."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        made = Round(secrets.token_hex(16), kind, ask, opened=now, **how)
        if arrays:
            keep_start(rounds / made.id, arrays)
        cls(rounds / made.id).save(made)
        return made

    def load(self) -> Round:
        """What is asked.

        Raises:
            NotFoundError: there is no such round.
        """
        try:
            values = json.loads((self.folder / "round.json").read_text())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no round {self.folder.name[:8]}", "see `pixcell-hub rounds`"
            ) from error
        return Round(**{**values, "kind": RoundKind(values["kind"])})

    def save(self, wanted: Round) -> None:
        """Write it down."""
        atomic_write_text(self.folder / "round.json", json.dumps(asdict(wanted), indent=2) + "\n")

    def close(self, state: str, result: Mapping[str, Any]) -> Round:
        """The round is over."""
        closed = replace(self.load(), state=state, result=result)
        self.save(closed)
        return closed

    def keep(self, heard: Heard, sealed: Sealed) -> bool:
        """Keep a site's answer to a step; False if there was one, which stays."""
        path = self._answer(heard.site, heard.answer.step)
        if path.exists():
            return False
        kept = {
            "site": heard.site,
            "payload": sealed.payload.decode(),
            "signer": sealed.signer,
            "signature": base64.b64encode(sealed.signature).decode(),
        }
        atomic_write_text(path, json.dumps(kept) + "\n")
        return True

    def answers(self, step: int | None = None) -> list[Heard]:
        """Answers to a step, or to all, by step and site."""
        pattern = f"answers/{'*' if step is None else step}-*.json"
        found = [json.loads(path.read_text()) for path in self.folder.glob(pattern)]
        heard = [
            Heard(kept["site"], Answer.of(json.loads(kept["payload"])), kept["signer"])
            for kept in found
        ]
        return sorted(heard, key=lambda each: (each.answer.step, each.site))

    def note_silent(self, site: str, reason: str) -> None:
        """Note that a node was asked and gave no answer that a site signed."""
        found = {**self.silent(), site: reason}
        atomic_write_text(self.folder / "silent.json", json.dumps(found) + "\n")

    def silent(self) -> dict[str, str]:
        """Who gave no answer, with a code; those that answered in the end left out."""
        path = self.folder / "silent.json"
        found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        answered = {heard.site for heard in self.answers()}
        return {site: reason for site, reason in found.items() if site not in answered}

    def _answer(self, site: str, step: int) -> Path:
        name = base64.b32encode(site.encode()).decode().rstrip("=").lower()
        return self.folder / "answers" / f"{step}-{name}.json"


def all_rounds(places: Places) -> list[Round]:
    """All rounds of a hub, the oldest first."""
    folders = [path.parent for path in places.rounds.glob("*/round.json")]
    return sorted((RoundFolder(each).load() for each in folders), key=lambda one: one.opened)


def find_round(places: Places, beginning: str) -> Round:
    """The round whose number begins so.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    found = [one for one in all_rounds(places) if one.id.startswith(beginning)]
    if len(found) != 1:
        raise NotFoundError(
            f"{len(found)} rounds begin with {beginning!r}", "see `pixcell-hub rounds`"
        )
    return found[0]
