"""The hospitals of one training, and the Flower nodes behind them.

Node ids are random and change; names and signing keys are what a training knows hospitals by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.serverapp import Grid

from strategies.delegating_grid import DelegatingGrid


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


class MembersGrid(DelegatingGrid):
    """A grid that shows some of another grid's nodes and delegates the rest."""

    def __init__(self, grid: Grid, members: tuple[int, ...]) -> None:
        super().__init__(grid)
        self._members = members

    def get_node_ids(self) -> Iterable[int]:
        """Return the members, whether they answer or not."""
        return list(self._members)
