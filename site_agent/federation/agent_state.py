"""What the agent is doing, for `pixcell-site status`."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pixcell_share.files import atomic_write_text


@dataclass(frozen=True)
class Seen:
    """The agent as it was last noted."""

    state: str
    """``starting``, ``connecting``, ``connected``, ``waiting``, ``stopping`` or ``stopped``."""
    detail: str
    since: str
    """When this state began, UTC."""
    pid: int

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, 0)
            return True
        return False


class AgentState:
    """The file that says it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[str, str] | None = None

    def note(self, state: str, detail: str) -> None:
        """Note a state, if it is another than before."""
        if (state, detail) == self._last:
            return
        self._last = (state, detail)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        atomic_write_text(self._path, json.dumps(asdict(Seen(state, detail, now, os.getpid()))))

    @classmethod
    def seen(cls, path: Path) -> Seen | None:
        """What was noted last; None if no agent ever ran."""
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            return Seen(**values)
        except (FileNotFoundError, ValueError, TypeError):
            return None
