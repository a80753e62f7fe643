"""The hospitals of one training, and the Flower nodes behind them.

Node ids are random and change; names and signing keys are what a training knows hospitals by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Hospitals by name.

    Attributes:
        ids: Flower's node id of each hospital.
        public_keys: each hospital's Ed25519 public key, 32 bytes.
    """

    ids: Mapping[str, int]
    public_keys: Mapping[str, bytes]

    @property
    def names(self) -> tuple[str, ...]:
        """Hospitals, sorted: the order of everything that has one."""
        return tuple(sorted(self.ids))

    def name_of(self, node_id: int) -> str:
        """Return the hospital behind a node, or a name that says it is none."""
        for name, node in self.ids.items():
            if node == node_id:
                return name
        return f"unknown node {node_id}"

    def only_members(self, grid: Grid) -> Grid:
        """Return a grid on which only this training's hospitals are to be seen."""
        return MembersGrid(grid, tuple(self.ids[name] for name in self.names))


class MembersGrid(Grid):
    """A grid that shows some of another grid's nodes and delegates the rest."""

    def __init__(self, grid: Grid, members: tuple[int, ...]) -> None:
        self._grid = grid
        self._members = members

    def get_node_ids(self) -> Iterable[int]:
        """Return the members, whether they answer or not."""
        return list(self._members)

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
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Delegate."""
        return self._grid.send_and_receive(messages, timeout=timeout)
