"""What travels when whole models do: a visit to one hospital, and models to be judged.

Between hospitals a model travels in an AEAD envelope under the group key with a signed header, so
the server carries it and can neither read nor change it. A model that is released travels open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from clients.contract.messages import ARRAYS, METRICS, NUM_EXAMPLES, bytes_to_array
from clients.contract.tensors import pack_tensors, unpack_tensors
from clients.contract.words import CONFIG, NO_WORD, config_of, read_word, read_words, words_of

if TYPE_CHECKING:
    import torch

_MODEL, _HEADER, _RELEASED = "envelope", "header", "model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A model in its envelope: who made it is in the signed header.

    Attributes:
        envelope: the model under the group key; ``b""`` for the initial model, which is public.
        header: its maker's signed header.
    """

    envelope: bytes = b""
    header: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRequest:
    """Brings a model to one hospital.

    Attributes:
        training: id of the training.
        bind: digest of the terms, hex.
        round: number of the visit, from 1; to release a model that was carried, the next one's.
        attempt: from 1; a retry is a new attempt.
        steps: private steps to take, as the terms have them for this visit.
        model: where to start.
        trail: signed headers of all that made the model, in order, the last one's its own.
        carry: whether the trained model is to be sent on in an envelope.
        release: whether the trained model is released.
    """

    training: str
    bind: str
    round: int = field(metadata={"word": "visit"})
    attempt: int = 1
    steps: int = 0
    model: Carried = field(default_factory=Carried, metadata=NO_WORD)
    trail: tuple[bytes, ...] = ()
    carry: bool = False
    release: bool = False

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        arrays = {}
        if self.model:
            arrays[_MODEL] = bytes_to_array(self.model.envelope)
            arrays[_HEADER] = bytes_to_array(self.model.header)
        return RecordDict({ARRAYS: ArrayRecord(arrays), CONFIG: ConfigRecord(words_of(self))})

    @classmethod
    def read(cls, content: RecordDict) -> VisitRequest:
        """Read the request at the hospital."""
        return cls(**read_words(cls, config_of(content)), model=_carried(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitReply:
    """A hospital's answer to a visit.

    Attributes:
        model: the trained model for the next hospital.
        released: the trained model by tensor name.
    """

    model: Carried = field(default_factory=Carried)
    released: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        arrays = pack_tensors(_RELEASED, self.released)
        if self.model:
            arrays[_MODEL] = bytes_to_array(self.model.envelope)
            arrays[_HEADER] = bytes_to_array(self.model.header)
        metrics = MetricRecord({NUM_EXAMPLES: 1})
        return RecordDict({ARRAYS: ArrayRecord(arrays), METRICS: metrics})

    @classmethod
    def read(cls, content: RecordDict) -> VisitReply:
        """Read a reply at the server."""
        return cls(
            model=_carried(content),
            released=unpack_tensors(_RELEASED, content.array_records[ARRAYS]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRequest:
    """Brings released models to a hospital whose data are public, to be measured there."""

    training: str
    bind: str
    models: tuple[Mapping[str, torch.Tensor], ...] = field(metadata=NO_WORD)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        arrays: dict[str, Array] = {}
        for number, model in enumerate(self.models):
            arrays |= pack_tensors(f"{number}.", model)
        config = ConfigRecord(words_of(self) | {"models": len(self.models)})
        return RecordDict({ARRAYS: ArrayRecord(arrays), CONFIG: config})

    def digest(self) -> str:
        """Return the digest of all models, hex."""
        digest = hashlib.sha256(b"asclepias judged models 1\n")
        for number, model in enumerate(self.models):
            for key, array in sorted(pack_tensors(f"{number}.", model).items()):
                head = json.dumps([key, array.dtype, list(array.shape), len(array.data)])
                digest.update(head.encode() + b"\n" + array.data)
        return digest.hexdigest()

    @classmethod
    def read(cls, content: RecordDict) -> JudgeRequest:
        """Read the request at the hospital."""
        config, arrays = config_of(content), content.array_records[ARRAYS]
        count: int = read_word(config, "models", "int")
        if not 0 <= count <= len(arrays):
            raise ValueError(f"{count} models in {len(arrays)} arrays")
        by_number: dict[str, dict[str, Array]] = {}
        for key, array in arrays.items():
            number, _, name = key.partition(".")
            by_number.setdefault(number, {})[name] = array
        models = tuple(
            unpack_tensors("", ArrayRecord(by_number.get(str(number), {})))
            for number in range(count)
        )
        return cls(**read_words(cls, config), models=models)


def _carried(content: RecordDict) -> Carried:
    arrays = content.array_records[ARRAYS]
    if _MODEL not in arrays:
        return Carried()
    return Carried(envelope=arrays[_MODEL].data, header=arrays[_HEADER].data)
