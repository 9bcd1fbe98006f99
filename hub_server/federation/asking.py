"""Ask all sites, and take what comes: nobody who is away or refuses holds a round up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from hub_server.federation.asked_nodes import Nodes
from hub_server.federation.kept_arrays import answer_of, keep_answer
from hub_server.federation.rounds import Heard, Round, RoundFolder
from pixcell_share.bundles import SiteKey
from pixcell_share.errors import MembershipError
from pixcell_share.federation import Answer, Reason, Request, Sealed, SealError
from pixcell_share.federation.records import Arrays, arrays_digest, pack, unpack

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
NO_ANSWER = "no_answer"
"""Of a node that was asked and is gone, whose app ended, or that took too long."""
UNSIGNED = "unsigned"
"""Of a node whose answer is not signed by a member's key."""
UNAPPROVED = "unapproved"
"""Of a node that does not start our app, as `site_agent.federation.executor` says it."""

SiteOf = Callable[[str], str]
"""The member whose key has this fingerprint; raises `MembershipError` if none has."""


@dataclass
class Asking:
    """One step of a round: who was asked, and who answered.

    Args:
        grid: Flower's way to the nodes.
        folder: keeps the answers.
        wanted: the round.
        key: the hub's; it signs the request.
        site_of: who signed an answer.
    """

    grid: Grid
    folder: RoundFolder
    wanted: Round
    key: SiteKey
    site_of: SiteOf

    def ask(self, step: int = 0, arrays: Arrays | None = None) -> list[Heard]:
        """Ask every node that is there or comes, until all have answered or time is up.

        Returns:
            All answers to this step, those of an earlier run of the round among them.
        """
        request = Request(
            self.wanted.id, self.wanted.kind, self.wanted.ask, step, arrays_digest(arrays or {})
        )
        sealed = Sealed.seal(request.document(), "request", self.key)
        content = pack(sealed, arrays)
        nodes = Nodes(self.grid, content, request.kind.message_type, step)
        began = last = time.monotonic()
        if self._enough(step, nodes, quiet_s=0.0):  # by an earlier run of the round
            return self.folder.answers(step)
        while (now := time.monotonic()) - began < self.wanted.wait_s:
            came = nodes.pull()
            if nodes.ask_newcomers() or came:
                last = now
            for message in came:
                self._take(message, sealed, nodes)
            if self._enough(step, nodes, now - last):
                break
            time.sleep(_LOOK_EVERY_S)
        for name in nodes.unanswered():
            self.folder.note_silent(name, NO_ANSWER)
        return self.folder.answers(step)

    def _enough(self, step: int, nodes: Nodes, quiet_s: float) -> bool:
        """Whether everybody answered, or nobody who is asked is left and nobody comes."""
        answered = len(self.folder.answers(step))
        if self.wanted.expected and answered >= self.wanted.expected:
            return True
        patience_s = self.wanted.return_s if nodes.some_may_return() else self.wanted.gather_s
        return not nodes.waiting and quiet_s > patience_s

    def _take(self, message: Message, request: Sealed, nodes: Nodes) -> None:
        """Keep an answer whose signature, round and request are right; nothing else counts."""
        if message.has_error():
            unapproved = message.error.reason == UNAPPROVED
            name = nodes.failed(message, for_good=unapproved)
            self.folder.note_silent(name, UNAPPROVED if unapproved else NO_ANSWER)
            _log.warning("%s did not answer: code %d", name, message.error.code)
            return
        try:
            sealed, arrays = unpack(message.content)
            site = self.site_of(sealed.key_id)
            answer = Answer.of(sealed.open("answer", sealed.key_id))
        except (SealError, MembershipError, ValueError):
            name = nodes.failed(message, for_good=True)
            self.folder.note_silent(name, UNSIGNED)
            _log.warning("an answer of %s was not signed by a member", name)
            return
        if (answer.request_sha256, answer.step) != (request.sha256, nodes.step):
            _log.warning("an answer of %s belongs to another request", site)
            return
        if answer.reason is Reason.STOPPED:  # its work is kept there, and goes on when it is back
            nodes.failed(message, for_good=False)
            self.folder.note_silent(site, Reason.STOPPED.value)
            return
        if answer.arrays_sha256 != arrays_digest(arrays):
            _log.warning("an answer of %s came with other arrays than it signed", site)
            return
        if arrays and not answer_of(self.folder.folder, answer.step, site):
            keep_answer(self.folder.folder, answer.step, site, arrays)
        self.folder.keep(Heard(site, answer), sealed)
