"""What travels when a model is split: activations, gradients at the cuts, and a sealed sum.

A round has three turns: *forward* (the hospital's bottom), *head* (its head and loss; not where the
labels are the server's), *backward* (its bottom again, and the sealed sum). Requests and replies
carry named arrays beside what a round of sums carries anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from clients.contract.messages import ARRAYS, RoundReply
from clients.contract.tensors import pack_arrays, unpack_arrays
from clients.contract.words import CONFIG, NO_WORD, SERVER_ROUND, config_of, read_words, words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Names of the arrays: at the bottom's output, the middle's output, and gradients at both.
ACTIVATIONS, FEATURES = "activations", "features"
FEATURE_GRADIENTS, ACTIVATION_GRADIENTS = "feature-gradients", "activation-gradients"
#: Without noise only: whose record a row is, labels, squared norms, and clip factors by patient.
OWNERS, LABELS, SQUARED_NORMS, FACTORS = "owners", "labels", "squared-norms", "factors"

_PREFIX = "layers."

Arrays = Mapping[str, "NDArray[np.generic]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """Asks one hospital for its turn in an attempt at a round."""

    training: str
    bind: str
    round: int = field(metadata=SERVER_ROUND)
    attempt: int
    arrays: Arrays = field(default_factory=dict, metadata=NO_WORD)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        return with_arrays(RecordDict({CONFIG: ConfigRecord(words_of(self))}), self.arrays)

    @classmethod
    def read(cls, content: RecordDict) -> TurnRequest:
        """Read the request at the hospital."""
        return cls(**read_words(cls, config_of(content)), arrays=arrays_of(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReply:
    """A hospital's answer to a turn: named arrays beside what a round of sums carries anyway."""

    reply: RoundReply = field(default_factory=RoundReply)
    arrays: Arrays = field(default_factory=dict)

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        return with_arrays(self.reply.content(), self.arrays)


def with_arrays(content: RecordDict, arrays: Arrays) -> RecordDict:
    """Return the content with named arrays added."""
    record = content.array_records.get(ARRAYS, ArrayRecord())
    kept = dict(record.items())
    content[ARRAYS] = ArrayRecord(kept | pack_arrays(_PREFIX, arrays))
    return content


def arrays_of(content: RecordDict) -> dict[str, NDArray[np.generic]]:
    """Return the named arrays of a content."""
    return unpack_arrays(_PREFIX, content.array_records[ARRAYS])
