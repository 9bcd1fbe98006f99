"""Open rounds and the runs of Flower that carry them: one at a time, again after a crash."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from hub_server.federation.control import Control
from hub_server.federation.places import Places
from hub_server.federation.rounds import Round, RoundFolder, all_rounds

_log = logging.getLogger(__name__)
_ATTEMPTS = 5


@dataclass
class RoundBook:
    """The rounds of a hub, for one SuperLink."""

    places: Places
    control: Control
    _run: int | None = None
    _round: str = ""
    _attempts: dict[str, int] = field(default_factory=dict)

    def attend(self) -> None:
        """Start the oldest open round unless it runs; start it again if its run ended early."""
        if self._run is not None:
            state = self.control.state(self._run)
            if not state.over:
                return
            _log.info("round %s: its run %s", self._round[:8], state.how)
            self._run = None
        for wanted in self.open_rounds():
            if self._attempts.get(wanted.id, 0) >= _ATTEMPTS:
                RoundFolder(self.places.rounds / wanted.id).close("failed", {})
                continue
            self._attempts[wanted.id] = self._attempts.get(wanted.id, 0) + 1
            self._run, self._round = self.control.start(wanted.id), wanted.id
            return

    def open_rounds(self) -> list[Round]:
        """Oldest first."""
        return [each for each in all_rounds(self.places) if each.state == "open"]
