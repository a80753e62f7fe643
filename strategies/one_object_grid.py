"""A grid whose messages travel as one object each; `clients.contract.one_object` says why."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from flwr.app import Message, RecordDict

from clients.contract.one_object import as_one_object, from_one_object
from strategies.delegating_grid import DelegatingGrid


class OneObjectGrid(DelegatingGrid):
    """Delegates to another grid; what it hands on looks as if it had travelled as it is."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push each as one object; what several messages share is written once."""
        asked = list(messages)
        made = {id(one.content): as_one_object(one.content) for one in asked}
        return self._grid.push_messages([_with(one, made[id(one.content)]) for one in asked])

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send each as one object and return the replies as they were before."""
        asked = [_with(one, as_one_object(one.content)) for one in messages]
        return super().send_and_receive(asked, timeout=timeout)

    def received(self, reply: Message) -> Message:
        """Return a reply as it was before; one that cannot be read stays, and is a bad reply."""
        if reply.has_content():
            with suppress(ValueError):
                reply.content = from_one_object(reply.content)
        return reply


def _with(message: Message, content: RecordDict) -> Message:
    """Return a message that says the same in another form, to be sent once."""
    asked = message.metadata
    return Message(
        content, asked.dst_node_id, asked.message_type, ttl=asked.ttl, group_id=asked.group_id
    )
