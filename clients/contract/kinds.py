"""Every kind of message that a hospital answers, and which of them an exchange has.

Whatever an exchange does not list is refused before anything of the request is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    """A message's type, as Flower names it."""

    JOIN = "query.join"
    LEAD = "query.lead"
    KEYS = "query.keys"
    REVEAL = "query.reveal"
    TRAIN = "train"
    FORWARD = "train.forward"
    HEAD = "train.head"
    BACKWARD = "train.backward"
    ANSWER = "train.answer"
    VISIT = "train.visit"
    RELEASE_CARRIED = "query.release_carried"
    RELEASE = "query.release"
    CONFIRM = "query.confirm"
    END = "query.end"
    WITNESS = "query.witness"
    VOUCH = "query.vouch"
    EVALUATE = "evaluate"
    EVALUATE_MODELS = "evaluate.models"


#: The ceremony, the end, and what hospitals say of each other's ledgers: in every exchange.
_ALWAYS = frozenset(
    {Kind.JOIN, Kind.REVEAL, Kind.LEAD, Kind.KEYS, Kind.END, Kind.WITNESS, Kind.VOUCH}
)
#: What opens sums under keys in shares, and what follows opened sums.
_SUMS = _ALWAYS | {Kind.ANSWER, Kind.CONFIRM, Kind.RELEASE}
_TURNS = frozenset({Kind.FORWARD, Kind.HEAD, Kind.BACKWARD})
_VISITS = _ALWAYS | {Kind.VISIT, Kind.EVALUATE_MODELS}

#: Exchange -> the kinds that it answers.
KINDS: Mapping[str, frozenset[Kind]] = {
    "gradients": _SUMS | {Kind.TRAIN, Kind.EVALUATE},
    "weights": _SUMS | {Kind.TRAIN, Kind.EVALUATE},
    # No hospital has the whole model, so the one that was released is brought to be judged.
    "layers": _SUMS | _TURNS | {Kind.EVALUATE_MODELS},
    "cyclic": _VISITS | {Kind.RELEASE_CARRIED},
    "single": _VISITS | {Kind.RELEASE_CARRIED},
    # Each model is released by the visit that makes it.
    "ensemble": _VISITS,
}
