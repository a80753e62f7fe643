"""The edge of a hospital, where a release or a refusal becomes a Flower reply."""

from __future__ import annotations

from flwr.app import Error, Message

from clients.contract.faults import FLOWER_ERROR_CODE
from clients.contract.one_object import as_one_object, is_one_object
from clients.site.door import Refusal, Release, let_go


def leave(outcome: Release | Refusal, asked: Message) -> Message:
    """Return the reply to a message.

    Raises:
        TypeError: no passage made the release, or it has left before.
    """
    if isinstance(outcome, Refusal):
        return Message(Error(FLOWER_ERROR_CODE, outcome.code), reply_to=asked)
    content = let_go(outcome).content()
    # In the form in which it was asked.
    joined = asked.has_content() and is_one_object(asked.content)
    return Message(as_one_object(content) if joined else content, reply_to=asked)
