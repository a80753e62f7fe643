"""What travels when a model is split: activations, gradients at the cuts, and a sealed sum.

A round has three turns: *forward* (the hospital's bottom), *head* (its head and loss; not where the
labels are the server's), *backward* (its bottom again, and the sealed sum). Requests and replies
carry named arrays beside what a round of sums carries anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from clients.contract.messages import ARRAYS, CONFIG, config_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORWARD, HEAD, BACKWARD = "train.forward", "train.head", "train.backward"

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
    round: int
    attempt: int
    arrays: Arrays = field(default_factory=dict)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        config = ConfigRecord(
            {"training": self.training, "server-round": self.round, "attempt": self.attempt}
        )
        return with_arrays(RecordDict({CONFIG: config}), self.arrays)

    @classmethod
    def read(cls, content: RecordDict) -> TurnRequest:
        """Read the request at the hospital."""
        config = config_of(content)
        return cls(
            training=str(config["training"]),
            round=int(config["server-round"]),  # type: ignore[arg-type]
            attempt=int(config["attempt"]),  # type: ignore[arg-type]
            arrays=arrays_of(content),
        )


def with_arrays(content: RecordDict, arrays: Arrays) -> RecordDict:
    """Return the content with named arrays added."""
    record = content.array_records.get(ARRAYS, ArrayRecord())
    kept = dict(record.items())
    kept |= {_PREFIX + name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()}
    content[ARRAYS] = ArrayRecord(kept)
    return content


def arrays_of(content: RecordDict) -> dict[str, NDArray[np.generic]]:
    """Return the named arrays of a content."""
    return {
        name[len(_PREFIX) :]: array.numpy()
        for name, array in content.array_records[ARRAYS].items()
        if name.startswith(_PREFIX)
    }
