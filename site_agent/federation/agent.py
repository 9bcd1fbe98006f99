"""`pixcell-site agent`: joins a federation and stays. It connects out; nothing connects in."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pixcell_share.errors import HubError
from pixcell_share.wire import Refusal
from site_agent.federation.agent_state import AgentState
from site_agent.federation.executor import write_program
from site_agent.federation.introducing import Introduction, introduce
from site_agent.federation.lock import only_agent
from site_agent.federation.places import Places
from site_agent.federation.supernode import SuperNode, running
from site_agent.home import SiteHome

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_MEET_EVERY_S = 60.0
"""How often the hub is asked whether its certificate was renewed."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 120.0
"""After so long the next pause is a short one again."""
_FOR_GOOD = {Refusal.UNKNOWN_KEY, Refusal.REVOKED}
"""What no waiting mends; a site that is not admitted yet waits, as one with a wrong clock does."""
_LAST_WORDS_S = 5.0
"""For the answer that says that the work was stopped."""


class Agent:
    """Keeps a SuperNode connected to the hub that the site joined.

    Args:
        home: the site's.
        say: told what a person should know.
        finish_s: how long work under way may take to come to the next tile when the agent stops.
    """

    def __init__(self, home: SiteHome, say: Callable[[str], None], finish_s: float = 120.0) -> None:
        self._home, self._say, self._finish_s = home, say, finish_s
        self._places = Places(home)
        self._state = AgentState(self._places.agent_state)
        self._stop = threading.Event()
        self._failures = 0

    def stop(self) -> None:
        """Ask it to stop between tiles; `run` returns."""
        self._stop.set()

    def run(self) -> None:
        """Stay connected until `stop`, or until the hub ends the membership.

        Raises:
            SettingsError: the site has joined no hub, or an agent runs already.
            MembershipError: the hub does not take the site's key any more.
        """
        with only_agent(self._places), self._states():
            write_program(self._places)
            while not self._stop.is_set():
                try:
                    known = introduce(self._home)
                    self._stay(known)
                except HubError as error:
                    if error.reason in _FOR_GOOD:
                        raise
                    self._state.note("waiting", error.cause)
                    _log.warning("the hub: %s", error.cause)
                self._pause()

    def _stay(self, known: Introduction) -> None:
        """Run a SuperNode until it ends, the certificate is another, or the agent stops."""
        began = met = time.monotonic()
        with running(self._places, known) as node:
            self._say(f"connecting to {known.hub} at {known.address}")
            while not self._stop.wait(_LOOK_EVERY_S):
                if not node.alive:
                    _log.warning("the SuperNode ended with code %d", node.code)
                    break
                self._state.note(*node.news())
                if time.monotonic() - met > _MEET_EVERY_S:
                    met = time.monotonic()
                    if self._renewed(known):
                        break
            if time.monotonic() - began > _STEADY_S:
                self._failures = 0
            if self._stop.is_set():
                self._finish(node)

    def _renewed(self, known: Introduction) -> bool:
        """Whether the hub shows another certificate, that its key vouches for."""
        try:
            return introduce(self._home) != known
        except HubError as error:
            if error.reason in _FOR_GOOD:
                raise
            _log.warning("the hub: %s", error.cause)
            return False

    def _finish(self, node: SuperNode) -> None:
        """Let the work under way come to the next tile, and its answer go out."""
        self._state.note("stopping", "between tiles")
        self._places.stop_file.touch()
        end_at = time.monotonic() + self._finish_s
        worked = self._places.working.exists()
        while self._places.working.exists() and time.monotonic() < end_at and node.alive:
            time.sleep(0.2)
        if worked:
            time.sleep(_LAST_WORDS_S)

    def _pause(self) -> None:
        """Longer after each failure in a row; jitter keeps sites from coming back together."""
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._stop.wait(longest * random.uniform(0.5, 1.0))

    @contextmanager
    def _states(self) -> Iterator[None]:
        self._places.stop_file.unlink(missing_ok=True)
        self._places.working.unlink(missing_ok=True)
        self._state.note("starting", "")
        try:
            yield
        finally:
            self._places.stop_file.unlink(missing_ok=True)
            self._state.note("stopped", "")


def run_agent(home: SiteHome, say: Callable[[str], None]) -> None:
    """Run an agent until SIGTERM or SIGINT.

    Raises:
        SettingsError: the site has joined no hub, or an agent runs already.
        MembershipError: the hub does not take the site's key any more.
    """
    agent = Agent(home, say)

    def stop(number: int, frame: FrameType | None) -> None:
        agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    agent.run()
