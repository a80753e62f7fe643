"""A grid that puts beside every message which one it is, and the settings of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import ConfigRecordValues, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from asclepias.told import Told
from clients.contract.kinds import Kind
from clients.contract.settings import ConfigValue
from strategies.delegating_grid import DelegatingGrid


class AppGrid(DelegatingGrid):
    """Delegates to another grid; all that goes out is a message to train.

    Args:
        grid: the app's own.
        settings: of the training.
        initial: the tensors that it begins with, as a frame.
        config: what the app's own loop is told.
    """

    def __init__(
        self,
        grid: Grid,
        settings: Mapping[str, ConfigValue],
        initial: bytes,
        config: Mapping[str, ConfigRecordValues],
    ) -> None:
        super().__init__(grid)
        self._settings = settings
        self._initial = initial
        self._config = config

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push each with what stands beside it; what several share is written once."""
        return self._grid.push_messages(self._beside(messages))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send each with what stands beside it and return the replies."""
        return self._grid.send_and_receive(self._beside(messages), timeout=timeout)

    def _beside(self, messages: Iterable[Message]) -> list[Message]:
        asked = list(messages)
        made: dict[tuple[int, str], RecordDict] = {}
        for one in asked:
            key = id(one.content), one.metadata.message_type
            if key not in made:
                made[key] = self._told(Kind(key[1])).beside(one.content)
        return [
            Message(
                made[id(one.content), one.metadata.message_type],
                one.metadata.dst_node_id,
                MessageType.TRAIN,
                ttl=one.metadata.ttl,
                group_id=one.metadata.group_id,
            )
            for one in asked
        ]

    def _told(self, kind: Kind) -> Told:
        return Told(
            kind=kind,
            settings=self._settings,
            initial=self._initial if kind is Kind.JOIN else b"",
            config=self._config if kind is Kind.TRAIN else {},
        )
