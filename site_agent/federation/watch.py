"""What a round looks at between tiles: whether it may still go on."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pixcell_share.federation import Outcome, Reason, RefusedRoundError
from pixcell_share.progress import Advance
from site_agent.federation.policy import FederationPolicy

_log = logging.getLogger(__name__)


class RoundView:
    """A view that nobody sees: it writes to the agent's log, and stops a round between tiles.

    Args:
        go_on: raises what ends the round.
    """

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on

    @contextmanager
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
        """Look before a stage, and whenever it advances."""
        self._go_on()
        _log.info("%s: %d of %d %s", name, done, total, unit)
        yield lambda count: self._go_on()

    def say(self, text: str) -> None:
        """A line in the log."""
        _log.info("%s", text)


def may_go_on(policy: FederationPolicy, stop_file: Path) -> Callable[[], None]:
    """What a `RoundView` asks: raises once the agent stops or the working hours are over."""

    def go_on() -> None:
        if stop_file.exists() or not policy.works_at(datetime.now()):
            raise RefusedRoundError(Reason.STOPPED, Outcome.FAILED)

    return go_on


@contextmanager
def gpu_locked(policy: FederationPolicy) -> Iterator[None]:
    """Hold the site's lock, if it names one, until the block ends.

    Raises:
        RefusedRoundError: somebody else holds it.
    """
    if not policy.gpu_lock:
        yield
        return
    with Path(policy.gpu_lock).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefusedRoundError(Reason.BUSY) from error
        yield
