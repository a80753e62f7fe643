"""How hospitals that missed rounds catch up in the middle of a question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.faults import Code, read_code
from strategies.conversation import fault_code

if TYPE_CHECKING:
    from clients.contract.messages import ReleaseRequest, RoundRequest
    from strategies.conversation import Conversation

_FIRST = -1


def catch_up(
    conversation: Conversation,
    replies: Iterable[Message],
    last: int,
    request: Callable[[int], RoundRequest | ReleaseRequest],
) -> Iterator[Message]:
    """Yield replies; a hospital that is behind is asked again with what it lacks.

    A hospital opens a bounded number of sums for one request, so it may be behind more than once.
    It is helped as long as it comes nearer.

    Args:
        conversation: with the hospitals.
        replies: to what was asked of them, one message each.
        last: the last closed round.
        request: the same, for one that has opened the sums up to a round.
    """
    stood: dict[int, int] = {}
    while True:
        behind: dict[int, Message] = {}
        for reply in replies:
            node, stands = reply.metadata.src_node_id, _stands_at(reply)
            if stands is None or not stood.get(node, _FIRST) < stands < last:
                yield reply
            else:
                behind[node], stood[node] = reply, stands
        if not behind:
            return
        contents = {at: request(at).content() for at in {stood[node] for node in behind}}
        replies = conversation.ask(
            Message(contents[stood[node]], node, reply.metadata.message_type)
            for node, reply in behind.items()
        )


def _stands_at(reply: Message) -> int | None:
    """Return the round that a hospital says it stands at, where it says that it is behind."""
    if not reply.has_error():
        return None
    code = fault_code(reply)
    return int(code.partition(":")[2]) if read_code(code) is Code.BEHIND else None
