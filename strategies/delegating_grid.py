"""A grid that hands everything on to another one: what others change a part of."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class DelegatingGrid(Grid):
    """Flower's way to the nodes, by way of another."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    @property
    def delegate(self) -> Grid:
        """The grid that everything is handed on to: who pulls each reply alone pulls from it."""
        return self._grid

    def received(self, reply: Message) -> Message:
        """Return a reply as this grid hands it on, whatever the reply holds."""
        return reply

    def get_node_ids(self) -> Iterable[int]:
        """Delegate."""
        return self._grid.get_node_ids()

    def set_run(self, run: Run) -> None:
        """Delegate."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Delegate."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Delegate."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Delegate."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Delegate."""
        return [self.received(one) for one in self._grid.pull_messages(message_ids)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Delegate."""
        replies = self._grid.send_and_receive(messages, timeout=timeout)
        return [self.received(one) for one in replies]
