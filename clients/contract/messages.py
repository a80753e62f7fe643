"""What travels between server and hospitals, as Flower records.

Two records per message, as Flower's FedAvg expects them: ``arrays`` carries bytes (sealed sums,
rosters, snapshots) or tensors (a released model), ``config`` the few words around them. A reply
adds ``metrics`` with the constant ``num-examples = 1``: a patient count would be a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    ConfigRecordValues,
    MetricRecord,
    RecordDict,
)

from clients.contract.tensors import pack_tensors, unpack_tensors
from clients.contract.words import (
    CONFIG,
    NO_WORD,
    SERVER_ROUND,
    config_of,
    read_words,
    words_of,
)
from crypto.seeds import unpacked

if TYPE_CHECKING:
    import torch

    from crypto.rosters import Roster

ARRAYS, METRICS, PHASES = "arrays", "metrics", "phases"
NUM_EXAMPLES = "num-examples"

_BYTES = "asclepias.bytes"
_RELEASE = "model."
_SUM, _ROSTER, _ANSWER, _SNAPSHOT = "sum.", "roster.", "answer.", "snapshot"
_ENVELOPE, _SEEDS = "envelope.", "seeds."


class Reply(Protocol):
    """What a hospital may answer with."""

    def content(self) -> RecordDict:
        """Return it as a message content."""


def bytes_to_array(data: bytes) -> Array:
    """Wrap raw bytes as a Flower array."""
    return Array("uint8", (len(data),), _BYTES, data)


def named_bytes(arrays: ArrayRecord, prefix: str) -> dict[str, bytes]:
    """Return the raw bytes of all arrays whose names begin so, by the rest of the name."""
    return {key[len(prefix) :]: arrays[key].data for key in arrays if key.startswith(prefix)}


def content_to_bytes(content: RecordDict) -> bytes:
    """Return a content as bytes that `content_from_bytes` reads."""
    from flwr.common.serde import recorddict_to_proto

    return bytes(recorddict_to_proto(content).SerializeToString(deterministic=True))


def content_from_bytes(data: bytes) -> RecordDict:
    """Return the content that `content_to_bytes` wrote."""
    from flwr.common.serde import recorddict_from_proto
    from flwr.proto.recorddict_pb2 import RecordDict as Proto

    return recorddict_from_proto(Proto.FromString(data))


def message_bytes(content: RecordDict) -> int:
    """Count the bytes of a message's records; numbers travel as 8 bytes."""
    words = sum(
        len(key) + sum(len(v) if isinstance(v, str | bytes) else 8 for v in _listed(value))
        for record in content.config_records.values()
        for key, value in record.items()
    )
    arrays = sum(record.count_bytes() for record in content.array_records.values())
    return words + arrays + sum(r.count_bytes() for r in content.metric_records.values())


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRound:
    """A closed round that hospitals may open.

    Attributes:
        total: the sealed total.
        roster: who is in it.
        answers: by holder, what opens it under keys in shares; empty under any others.
        seeds: of noise that is taken out of the opened sum, as `crypto.seeds` packs them.
    """

    total: bytes
    roster: bytes
    answers: Mapping[str, bytes] = field(default_factory=dict)
    seeds: bytes = b""

    def digest(self, roster: Roster) -> str:
        """Return the digest of all that decides on what hospitals open, hex.

        Args:
            roster: as it was read.

        Raises:
            SealingError: the seeds are none.
        """
        return roster.digest(self.total, unpacked(self.seeds))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRequest:
    """One round, as the server asks for it; the same for every hospital.

    Attributes:
        training: id of the training, which outlives Flower's run id.
        bind: digest of the terms, hex.
        round: to contribute to, from 1; to confirm, the last closed one.
        attempt: from 1; a retry is a new attempt.
        closed: sealed totals by round that the hospital may not have opened yet.
        opened: digests, hex, of what was opened in rounds whose totals are not sent any more: the
            proof that a snapshot goes on from where the hospital stands.
        release_from: hospital asked to return the model, or ``""``.
        snapshot_from: hospital asked to leave a snapshot, or ``""``.
        snapshot: a snapshot for hospitals that are behind, or ``b""``.
    """

    training: str
    bind: str
    round: int = field(metadata=SERVER_ROUND)
    attempt: int = 1
    closed: Mapping[int, OpenedRound] = field(default_factory=dict, metadata=NO_WORD)
    opened: Mapping[int, str] = field(default_factory=dict, metadata=NO_WORD)
    release_from: str = ""
    snapshot_from: str = ""
    snapshot: bytes = field(default=b"", metadata=NO_WORD)

    def arrays(self) -> ArrayRecord:
        """Return the bytes of the request."""
        return _closed_arrays(self.closed, self.snapshot)

    def config(self) -> ConfigRecord:
        """Return the words of the request."""
        return ConfigRecord(words_of(self) | _opened_words(self.opened))

    def content(self) -> RecordDict:
        """Return the whole request as a message content."""
        return RecordDict({ARRAYS: self.arrays(), CONFIG: self.config()})

    @classmethod
    def read(cls, content: RecordDict) -> RoundRequest:
        """Read a request at the hospital."""
        config, arrays = config_of(content), content.array_records[ARRAYS]
        return cls(
            **read_words(cls, config),
            closed=_closed(arrays),
            opened=_opened(config),
            snapshot=arrays[_SNAPSHOT].data if _SNAPSHOT in arrays else b"",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """Asks one hospital for the model after the last sum, which a quorum has confirmed.

    Attributes:
        training: id of the training.
        bind: digest of the terms, hex.
        headers: the signed headers of those who confirmed.
        closed: as in a `RoundRequest`, for a process that lost its replica; no state moves.
        opened: as there.
        snapshot: as there.
    """

    training: str
    bind: str
    headers: tuple[bytes, ...]
    closed: Mapping[int, OpenedRound] = field(default_factory=dict, metadata=NO_WORD)
    opened: Mapping[int, str] = field(default_factory=dict, metadata=NO_WORD)
    snapshot: bytes = field(default=b"", metadata=NO_WORD)

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        config = ConfigRecord(words_of(self) | _opened_words(self.opened))
        return RecordDict({CONFIG: config, ARRAYS: _closed_arrays(self.closed, self.snapshot)})

    @classmethod
    def read(cls, content: RecordDict) -> ReleaseRequest:
        """Read the request at the hospital."""
        config, arrays = config_of(content), content.array_records[ARRAYS]
        return cls(
            **read_words(cls, config),
            closed=_closed(arrays),
            opened=_opened(config),
            snapshot=arrays[_SNAPSHOT].data if _SNAPSHOT in arrays else b"",
        )


def _closed_arrays(closed: Mapping[int, OpenedRound], snapshot: bytes) -> ArrayRecord:
    arrays: dict[str, Array] = {}
    for number, one in closed.items():
        arrays[f"{_SUM}{number}"] = bytes_to_array(one.total)
        arrays[f"{_ROSTER}{number}"] = bytes_to_array(one.roster)
        for holder, answer in one.answers.items():
            arrays[f"{_ANSWER}{number}.{holder}"] = bytes_to_array(answer)
        if one.seeds:
            arrays[f"{_SEEDS}{number}"] = bytes_to_array(one.seeds)
    if snapshot:
        arrays[_SNAPSHOT] = bytes_to_array(snapshot)
    return ArrayRecord(arrays)


def _closed(arrays: ArrayRecord) -> dict[int, OpenedRound]:
    rounds = sorted(int(key[len(_SUM) :]) for key in arrays if key.startswith(_SUM))
    answers: dict[str, dict[str, bytes]] = {}
    for rest, answer in named_bytes(arrays, _ANSWER).items():
        number, _, holder = rest.partition(".")
        answers.setdefault(number, {})[holder] = answer
    return {
        number: OpenedRound(
            total=arrays[f"{_SUM}{number}"].data,
            roster=arrays[f"{_ROSTER}{number}"].data,
            answers=answers.get(str(number), {}),
            seeds=arrays[f"{_SEEDS}{number}"].data if f"{_SEEDS}{number}" in arrays else b"",
        )
        for number in rounds
    }


def _opened_words(opened: Mapping[int, str]) -> dict[str, ConfigRecordValues]:
    rounds = sorted(opened)
    return {"opened-rounds": rounds, "opened-digests": [opened[number] for number in rounds]}


def _opened(config: ConfigRecord) -> dict[int, str]:
    rounds, digests = config["opened-rounds"], config["opened-digests"]
    return dict(zip(map(int, rounds), map(str, digests), strict=True))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReply:
    """A hospital's answer to a round.

    Attributes:
        sealed: its sealed contribution, or ``b""`` when it was only asked for the model.
        envelopes: shares of the key that it is sealed under, by holder; empty under keys that are
            not in shares.
        header: its signed header, or ``b""``.
        model: the released model by tensor name, if it was asked for and a quorum has confirmed
            the sums that it is made of.
        model_round: the last of these sums.
        snapshot: the state after such a sum, sealed for the other hospitals, if it was asked for.
        snapshot_round: the last sum in it.
        phases: seconds by phase; only where the data are declared public, since a batch's size
            can be read from the time it took.
    """

    sealed: bytes = b""
    envelopes: Mapping[str, bytes] = field(default_factory=dict)
    header: bytes = b""
    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    model_round: int = 0
    snapshot: bytes = b""
    snapshot_round: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        arrays = pack_tensors(_RELEASE, self.model)
        if self.sealed:
            arrays["sealed"] = bytes_to_array(self.sealed)
        for holder, envelope in self.envelopes.items():
            arrays[f"{_ENVELOPE}{holder}"] = bytes_to_array(envelope)
        if self.header:
            arrays["header"] = bytes_to_array(self.header)
        if self.snapshot:
            arrays[_SNAPSHOT] = bytes_to_array(self.snapshot)
        records = RecordDict(
            {
                ARRAYS: ArrayRecord(arrays),
                METRICS: MetricRecord({NUM_EXAMPLES: 1}),
                CONFIG: ConfigRecord(
                    {"model-round": self.model_round, "snapshot-round": self.snapshot_round}
                ),
            }
        )
        if self.phases:
            records[PHASES] = MetricRecord(dict(self.phases))
        return records

    @classmethod
    def read(cls, content: RecordDict) -> RoundReply:
        """Read a reply at the server."""
        arrays, config = content.array_records[ARRAYS], config_of(content)
        phases = content.metric_records.get(PHASES, MetricRecord())
        return cls(
            sealed=arrays["sealed"].data if "sealed" in arrays else b"",
            envelopes=named_bytes(arrays, _ENVELOPE),
            header=arrays["header"].data if "header" in arrays else b"",
            model=unpack_tensors(_RELEASE, arrays),
            model_round=int(config["model-round"]),  # type: ignore[arg-type]
            snapshot=arrays[_SNAPSHOT].data if _SNAPSHOT in arrays else b"",
            snapshot_round=int(config["snapshot-round"]),  # type: ignore[arg-type]
            phases={str(k): float(v) for k, v in phases.items()},  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A hospital's figures on its own test records, where data are public.

    Attributes:
        metrics: measure -> value; finite.
    """

    metrics: Mapping[str, float]

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        return RecordDict({METRICS: MetricRecord({NUM_EXAMPLES: 1, **self.metrics})})
