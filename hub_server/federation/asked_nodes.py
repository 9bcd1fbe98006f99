"""The nodes that are asked in one step of a round: each once, and again if it was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

_TRIES = 3
"""Of one node: the SuperLink gives a node up that is silent for a minute, and it may come back."""


class Nodes:
    """Who was asked, and whose answer is still to come.

    Args:
        grid: Flower's way to the nodes.
        content: of every message.
        message_type: likewise.
        step: of the round.
    """

    def __init__(self, grid: Grid, content: RecordDict, message_type: str, step: int) -> None:
        self._grid, self._content, self._type = grid, content, message_type
        self.step = step
        self._asked: dict[str, int] = {}
        self._tries: Counter[int] = Counter()
        self._lost: set[int] = set()
        self.waiting: set[str] = set()
        """Numbers of the messages that are not answered yet."""

    def ask_newcomers(self) -> bool:
        """Send the message to every node that is there and was not asked; whether there was one."""
        busy = {self._asked[number] for number in self.waiting}
        answered = set(self._asked.values()) - busy - self._lost
        new = set(self._grid.get_node_ids()) - busy - answered
        found = False
        for node in sorted(new):
            if self._tries[node] >= _TRIES:
                continue
            message = Message(self._content, node, self._type, group_id=str(self.step))
            number = next(iter(self._grid.push_messages([message])), None)
            if number is not None:
                found = True
                self._tries[node] += 1
                self._lost.discard(node)
                self._asked[number] = node
                self.waiting.add(number)
        return found

    def pull(self) -> list[Message]:
        """What came meanwhile."""
        came = list(self._grid.pull_messages(self.waiting)) if self.waiting else []
        for message in came:
            self.waiting.discard(message.metadata.reply_to_message_id)
        return came

    def failed(self, message: Message, *, for_good: bool) -> str:
        """A node did not answer, and is asked again unless ``for_good``; the name of its site."""
        node = self._asked.get(message.metadata.reply_to_message_id, 0)
        if not for_good:
            self._lost.add(node)
        return self._names([node])[0]

    def some_may_return(self) -> bool:
        """Whether a node got lost that would be asked again."""
        return any(self._tries[node] < _TRIES for node in self._lost)

    def unanswered(self) -> list[str]:
        """Names of the sites whose answers are still to come."""
        return self._names([self._asked[number] for number in self.waiting])

    def _names(self, nodes: Iterable[int]) -> list[str]:
        known = {found.node_id: found.name for found in self._grid.get_nodes()}
        return [str(known.get(node) or f"node {node}") for node in nodes]
