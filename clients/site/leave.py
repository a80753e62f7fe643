"""The edge of a hospital, where a release or a refusal becomes a Flower reply."""

from __future__ import annotations

from flwr.app import Error, Message

from clients.contract.faults import FLOWER_ERROR_CODE
from clients.site.door import Refusal, Release, let_go


def leave(outcome: Release | Refusal, asked: Message) -> Message:
    """Return the reply to a message.

    Raises:
        TypeError: no passage made the release, or it has left before.
    """
    if isinstance(outcome, Refusal):
        return Message(Error(FLOWER_ERROR_CODE, outcome.code), reply_to=asked)
    return Message(let_go(outcome).content(), reply_to=asked)
