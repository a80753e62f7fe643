"""A grid that puts beside every message which one it is, and the settings of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ConfigRecordValues, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from asclepias.told import Told
from clients.contract.kinds import Kind
from clients.contract.settings import ConfigValue
from strategies.delegating_grid import DelegatingGrid


class AppGrid(DelegatingGrid):
    """Delegates to another grid; all that goes out is a message to train.

    What comes back is of the kind that was asked for again: who is helped to catch up is then asked
    the same once more.

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
        #: Kind of each message that waits for its reply, by the message's id.
        self._waiting: dict[str, str] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push each with what stands beside it; what several share is written once."""
        asked = list(messages)
        ids = list(self._grid.push_messages(self._beside(asked)))
        kinds = (one.metadata.message_type for one in asked)
        self._waiting |= dict(zip(ids, kinds, strict=True))
        return ids

    def received(self, reply: Message) -> Message:
        """Return a reply, of the kind that was asked for."""
        told = reply.metadata
        told.message_type = self._waiting.pop(told.reply_to_message_id, told.message_type)
        return reply

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send each with what stands beside it and return the replies."""
        return super().send_and_receive(self._beside(list(messages)), timeout=timeout)

    def _beside(self, asked: Sequence[Message]) -> list[Message]:
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
