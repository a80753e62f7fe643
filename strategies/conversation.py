"""The server's talk with the hospitals: one loop that every strategy shares.

Flower's own ``start()`` waits for all replies of a round and treats a failure as a log line. Here
replies are handed on as they come, bytes are counted, silence becomes a fault with a name, and the
strategy decides what a fault means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from clients.contract.faults import FLOWER_ERROR_CODE, Code, read_code
from clients.contract.messages import message_bytes
from clients.contract.phases import Phases
from strategies.pulling import pull_each

#: Pause after a pull that brought nothing, in seconds: it grows by a quarter, so that waiting adds
#: at most a quarter to whatever is waited for. Grids that wait by themselves make it rare.
SHORTEST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
GROWTH = 1.25
#: What the server says of a node that does not answer.
UNREACHABLE = "unreachable"
#: What Flower itself answers for a node -> our word for it.
FLOWER_FAULTS = {
    ErrorCode.MESSAGE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.NODE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.INVALID_FAB: "app-refused",
}


class Conversation:
    """Sends messages and hands on replies as they come; counts what really travels.

    Attributes:
        sent_bytes: to all hospitals so far.
        received_bytes: from all hospitals so far.
        seen: called with each answer that comes; then, once all have come, ``kept`` is.
        kept: called after each question.
        phases: the server's own seconds. ``transfer`` runs from a reply's being ready to the
            server's taking it up, summed over replies; on several machines it takes clocks that
            agree.
    """

    def __init__(self, grid: Grid, *, timeout_seconds: float) -> None:
        self.grid = grid
        self._timeout = timeout_seconds
        self.sent_bytes = 0
        self.received_bytes = 0
        self.seen: Callable[[Message], None] = lambda _: None
        self.kept: Callable[[], None] = lambda: None
        self.phases = Phases()

    def wait_for(self, nodes: Collection[int], least: int) -> bool:
        """Wait until so many of some nodes are connected; False where they are not in time."""
        end = time.monotonic() + self._timeout
        while True:
            if len(set(nodes) & set(self.grid.get_node_ids())) >= least:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(LONGEST_PAUSE_SECONDS)

    def ask(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Send messages and yield one reply a message, in the order in which they come.

        A node that stays silent for the whole timeout yields an error reply ``unreachable``.
        """
        asked = list(messages)
        sizes: dict[int, int] = {}
        for message in asked:
            key = id(message.content)
            if key not in sizes:
                sizes[key] = message_bytes(message.content)
            self.sent_bytes += sizes[key]
        ids = list(self.grid.push_messages(asked))
        return self._replies(dict(zip(ids, asked, strict=True)))

    def _replies(self, waiting: dict[str, Message]) -> Iterator[Message]:
        end, pause = time.monotonic() + self._timeout, SHORTEST_PAUSE_SECONDS
        while waiting and time.monotonic() < end:
            replies = list(pull_each(self.grid, waiting))
            for reply in replies:
                asked = waiting.pop(reply.metadata.reply_to_message_id, None)
                if asked is None:
                    continue  # it answers nothing that was asked, or answers it twice
                if reply.metadata.src_node_id != asked.metadata.dst_node_id:
                    # The SuperLink answers for a node that has gone.
                    reply = Message(Error(FLOWER_ERROR_CODE, UNREACHABLE), reply_to=asked)
                if reply.has_content():
                    on_its_way = time.time() - reply.metadata.created_at
                    # Clocks may differ, and a node may say what it likes.
                    self.phases.add("transfer", min(max(0.0, on_its_way), self._timeout))
                    self.received_bytes += message_bytes(reply.content)
                    self.seen(reply)
                yield reply
            if replies:
                pause = SHORTEST_PAUSE_SECONDS
            else:
                time.sleep(pause)
                pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)
        self.kept()
        for message in waiting.values():
            yield Message(Error(FLOWER_ERROR_CODE, UNREACHABLE), reply_to=message)


def fault_code(reply: Message) -> str:
    """Return the code of an error reply, whose text is trusted for nothing else.

    A reply that does not come from our own app may carry any text, an exception's included;
    whatever is not on the closed list of codes becomes ``internal``.
    """
    if reply.error.code != FLOWER_ERROR_CODE:
        return FLOWER_FAULTS.get(reply.error.code, Code.INTERNAL.value)
    text = reply.error.reason or ""
    return text if text == UNREACHABLE or read_code(text) is not None else Code.INTERNAL.value


def listed(faults: Mapping[str, str]) -> str:
    """Return codes by hospital, as messages show them."""
    return "; ".join(f"{name}: {code}" for name, code in sorted(faults.items()))


def renewed(message: Message) -> Message:
    """Return a message that says the same to the same node, to be sent once more."""
    asked = message.metadata
    return Message(message.content, asked.dst_node_id, asked.message_type, group_id=asked.group_id)
