"""Keep the SuperLink running, its nodes in line with the sites, and open rounds under way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from hub_server.federation.control import Control
from hub_server.federation.nodes import NodeBook, bring_in_line
from hub_server.federation.places import Places
from hub_server.federation.round_book import RoundBook
from hub_server.federation.superlink import SuperLink, SuperLinkError, deployed
from hub_server.home import HubHome
from hub_server.registry import Registry
from hub_server.web.failures import describe
from pixcell_share.errors import PixcellError
from pixcell_share.federation.environment import spare_loopback

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_LONGEST_PAUSE_S = 60.0


@contextmanager
def federating(home: HubHome) -> Iterator[None]:
    """Supervise a federation in a thread, until the block ends.

    Raises:
        SuperLinkError: the SuperLink does not start the first time.
    """
    spare_loopback()
    supervisor = Supervisor(home)
    thread = threading.Thread(target=supervisor.run, name="federation")
    thread.start()
    try:
        supervisor.await_first_start()
        yield
    finally:
        supervisor.stop()
        thread.join()


class Supervisor:
    """Starts a SuperLink again whenever it ends, and each open round with it.

    Args:
        home: the hub's.
    """

    def __init__(self, home: HubHome) -> None:
        self._home = home
        self._places = Places(home)
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._failure: PixcellError | None = None

    def stop(self) -> None:
        """End what runs; `run` returns."""
        self._stop.set()

    def await_first_start(self) -> None:
        """Wait until the SuperLink is there.

        Raises:
            SuperLinkError: it does not start.
        """
        self._begun.wait()
        if self._failure is not None:
            raise self._failure

    def run(self) -> None:
        """Supervise until `stop`."""
        self._places.folder.mkdir(exist_ok=True, mode=0o700)
        registry, failures = self._home.registry(), 0
        try:
            while not self._stop.is_set():
                try:
                    with deployed(self._places) as link:
                        self._begun.set()
                        self._attend(link, registry)
                    failures = 0
                except (PixcellError, OSError) as error:
                    failures += 1
                    _log.error("federation: %s", describe(error))
                    if not self._begun.is_set():
                        self._failure = SuperLinkError(
                            "Flower's SuperLink did not start", "look into federation/superlink.log"
                        )
                        return
                    self._stop.wait(min(2.0**failures, _LONGEST_PAUSE_S))
        finally:
            self._begun.set()
            registry.close()

    def _attend(self, link: SuperLink, registry: Registry) -> None:
        """Look after one SuperLink until it ends, or the hub does."""
        control = Control(link.address, self._places.tls / "ca.crt")
        rounds, nodes = RoundBook(self._places, control), NodeBook(self._places)
        try:
            while link.alive and not self._stop.wait(_LOOK_EVERY_S):
                try:
                    bring_in_line(control, nodes, nodes.wanted(registry))
                    rounds.attend()
                except (httpx.HTTPError, PixcellError) as error:
                    _log.warning("federation: %s", type(error).__name__)
        finally:
            control.close()
        if not self._stop.is_set():
            _log.error("the SuperLink ended; it is started again")
