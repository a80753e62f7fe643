"""Replies as they are pulled from a grid: each by itself, whatever one of them holds.

Flower's grid over HTTP fetches all that have come in one call, and what it raises about one reply
ends that call: the SuperLink has handed out the others, and never does so again. So its call is
made once, as it would be, and each reply is read alone. Who sent it, and what it answers, is what
the SuperLink says: the bytes of a reply, which say it too, are its sender's own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from flwr.app import Error, Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid

from clients.contract.faults import FLOWER_ERROR_CODE, Code
from strategies.delegating_grid import DelegatingGrid
from strategies.replies import BadReply

if TYPE_CHECKING:
    from flwr.superlink.grid.http_grid import HttpGrid


def pull_each(grid: Grid, waiting: dict[str, Message]) -> Iterator[Message]:
    """Yield the replies that have come; one that cannot be read is its sender's fault alone.

    Args:
        grid: of the run.
        waiting: what was asked, by the message's id.
    """
    if isinstance(grid, DelegatingGrid):
        # What stands before Flower's grid must not hide it: each reply is read alone behind it too.
        yield from map(grid.received, pull_each(grid.delegate, waiting))
        return
    if not _is_http(grid):
        yield from grid.pull_messages(list(waiting))
        return
    for envelope, one in _apart(grid, list(waiting)):
        asked = envelope.reply_to_message_id
        try:
            for reply in one.pull_messages([asked]):
                told = reply.metadata
                sender = told.src_node_id in (envelope.src_node_id, SUPERLINK_NODE_ID)
                if told.reply_to_message_id != asked or not sender:
                    raise BadReply
                yield reply
        except Exception:
            # What hostile bytes make Flower's readers raise is not for a list to say.
            if asked in waiting:
                bad = Message(
                    Error(FLOWER_ERROR_CODE, Code.MALFORMED.value), reply_to=waiting[asked]
                )
                # What was sent may have been a message that says the same in another form.
                bad.metadata.__dict__["_reply_to_message_id"] = asked
                yield bad


def _is_http(grid: Grid) -> TypeGuard[HttpGrid]:
    """Whether a grid is Flower's over HTTP; its module, two seconds of imports, is asked last."""
    own = [base for base in type(grid).__mro__ if not issubclass(Grid, base)]
    if not any(base.__module__.startswith("flwr.") for base in own):
        return False
    from flwr.superlink.grid.http_grid import HttpGrid

    return isinstance(grid, HttpGrid)


def _apart(grid: HttpGrid, ids: Sequence[str]) -> Iterator[tuple[Any, HttpGrid]]:
    """Ask for all replies in one call; yields what the SuperLink says of each, and its own grid."""
    from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse

    client = grid._runtime_client
    found = client.PullMessages(PullAppMessagesRequest(message_ids=ids))
    for message, tree in zip(found.messages_list, found.message_object_trees, strict=True):
        answer = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
        one = copy.copy(grid)
        one._client = _Once(client, answer)  # type: ignore[assignment]
        yield message.metadata, one


class _Once:
    """A SuperLink's client whose answer to a pull is known; everything else is asked as ever."""

    def __init__(self, client: Any, answer: Any) -> None:
        self._asked = client
        self._answer = answer

    def PullMessages(self, _: Any) -> Any:
        """Return the one reply."""
        return self._answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._asked, name)
