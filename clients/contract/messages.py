"""What travels between server and hospitals, as Flower records.

Two records per message, as Flower's FedAvg expects them: ``arrays`` carries bytes (sealed sums,
rosters, snapshots) or tensors (a released model), ``config`` the few words around them. A reply
adds ``metrics`` with the constant ``num-examples = 1``: a patient count would be a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    ConfigRecordValues,
    MetricRecord,
    RecordDict,
)

from clients.contract.tensors import pack_tensors, unpack_tensors

if TYPE_CHECKING:
    import torch

ARRAYS, CONFIG, METRICS, PHASES = "arrays", "config", "metrics", "phases"
JOIN, LEAD, KEYS, TRAIN, RELEASE, EVALUATE = (
    "query.join",
    "query.lead",
    "query.keys",
    "train",
    "query.release",
    "evaluate",
)
NUM_EXAMPLES = "num-examples"

_BYTES = "asclepias.bytes"
_OFFERS = "offers"
_RELEASE = "model."
_SUM, _ROSTER, _SNAPSHOT = "sum.", "roster.", "snapshot"


def bytes_to_array(data: bytes) -> Array:
    """Wrap raw bytes as a Flower array."""
    return Array("uint8", (len(data),), _BYTES, data)


def config_of(content: RecordDict) -> ConfigRecord:
    """Return the words of a message."""
    return content.config_records[CONFIG]


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
    """A closed round that hospitals may open: the sealed total and who is in it."""

    total: bytes
    roster: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRequest:
    """Asks one hospital to make the training's keys for all that offered."""

    training: str
    noise_multiplier: float
    offers: tuple[bytes, ...]

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        config: dict[str, ConfigRecordValues] = {
            "training": self.training,
            "noise-multiplier": self.noise_multiplier,
            _OFFERS: list(self.offers),
        }
        return RecordDict({CONFIG: ConfigRecord(config)})

    @classmethod
    def read(cls, content: RecordDict) -> LeadRequest:
        """Read the request at the hospital."""
        config = config_of(content)
        return cls(
            training=str(config["training"]),
            noise_multiplier=float(config["noise-multiplier"]),  # type: ignore[arg-type]
            offers=tuple(config[_OFFERS]),  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadReply:
    """The public part of the keys, and the secret part wrapped for each hospital alone."""

    public: bytes
    wrapped: Mapping[str, bytes]

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        return RecordDict({CONFIG: ConfigRecord({"public": self.public, **self.wrapped})})

    @classmethod
    def read(cls, content: RecordDict) -> LeadReply:
        """Read the reply at the server, which can read the public part only."""
        wrapped = {str(k): bytes(v) for k, v in config_of(content).items()}  # type: ignore[arg-type]
        return cls(public=wrapped.pop("public"), wrapped=wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRequest:
    """Brings one hospital the training's keys, wrapped for it alone."""

    training: str
    noise_multiplier: float
    offers: tuple[bytes, ...]
    public: bytes
    wrapped: bytes

    def content(self) -> RecordDict:
        """Return the request as a message content."""
        config: dict[str, ConfigRecordValues] = {
            "training": self.training,
            "noise-multiplier": self.noise_multiplier,
            _OFFERS: list(self.offers),
            "public": self.public,
            "wrapped": self.wrapped,
        }
        return RecordDict({CONFIG: ConfigRecord(config)})

    @classmethod
    def read(cls, content: RecordDict) -> KeysRequest:
        """Read the request at the hospital."""
        config = config_of(content)
        return cls(
            training=str(config["training"]),
            noise_multiplier=float(config["noise-multiplier"]),  # type: ignore[arg-type]
            offers=tuple(config[_OFFERS]),  # type: ignore[arg-type]
            public=bytes(config["public"]),  # type: ignore[arg-type]
            wrapped=bytes(config["wrapped"]),  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRequest:
    """One round, as the server asks for it; the same for every hospital.

    Attributes:
        training: id of the training, which outlives Flower's run id.
        round: 1-based round to contribute to; for a release, the round after the last.
        attempt: 1-based; a retry is a new attempt.
        closed: sealed totals by round that the hospital may not have opened yet.
        release_from: hospital asked to return the model, or ``""``.
        snapshot_from: hospital asked to leave a snapshot, or ``""``.
        snapshot: a snapshot for hospitals that are behind, or ``b""``.
    """

    training: str
    round: int
    attempt: int = 1
    closed: Mapping[int, OpenedRound] = field(default_factory=dict)
    release_from: str = ""
    snapshot_from: str = ""
    snapshot: bytes = b""

    def arrays(self) -> ArrayRecord:
        """Return the bytes of the request."""
        arrays: dict[str, Array] = {}
        for number, closed in self.closed.items():
            arrays[f"{_SUM}{number}"] = bytes_to_array(closed.total)
            arrays[f"{_ROSTER}{number}"] = bytes_to_array(closed.roster)
        if self.snapshot:
            arrays[_SNAPSHOT] = bytes_to_array(self.snapshot)
        return ArrayRecord(arrays)

    def config(self) -> ConfigRecord:
        """Return the words of the request."""
        return ConfigRecord(
            {
                "training": self.training,
                "server-round": self.round,
                "attempt": self.attempt,
                "release-from": self.release_from,
                "snapshot-from": self.snapshot_from,
            }
        )

    def content(self) -> RecordDict:
        """Return the whole request as a message content."""
        return RecordDict({ARRAYS: self.arrays(), CONFIG: self.config()})

    @classmethod
    def read(cls, content: RecordDict) -> RoundRequest:
        """Read a request at the hospital."""
        config, arrays = config_of(content), content.array_records[ARRAYS]
        rounds = sorted(int(key[len(_SUM) :]) for key in arrays if key.startswith(_SUM))
        return cls(
            training=str(config["training"]),
            round=int(config["server-round"]),  # type: ignore[arg-type]
            attempt=int(config["attempt"]),  # type: ignore[arg-type]
            closed={
                number: OpenedRound(
                    total=arrays[f"{_SUM}{number}"].data, roster=arrays[f"{_ROSTER}{number}"].data
                )
                for number in rounds
            },
            release_from=str(config["release-from"]),
            snapshot_from=str(config["snapshot-from"]),
            snapshot=arrays[_SNAPSHOT].data if _SNAPSHOT in arrays else b"",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReply:
    """A hospital's answer to a round.

    Attributes:
        sealed: its sealed contribution, or ``b""`` when it was only asked for the model.
        header: its signed header, or ``b""``.
        model: the released model by tensor name, if it was asked for.
        snapshot: the replica, sealed for the other hospitals, if it was asked for.
        phases: seconds by phase; only where the data are declared public, since a batch's size
            can be read from the time it took.
    """

    sealed: bytes = b""
    header: bytes = b""
    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    snapshot: bytes = b""
    phases: Mapping[str, float] = field(default_factory=dict)

    def content(self) -> RecordDict:
        """Return the reply as a message content."""
        arrays = pack_tensors(_RELEASE, self.model)
        if self.sealed:
            arrays["sealed"] = bytes_to_array(self.sealed)
            arrays["header"] = bytes_to_array(self.header)
        if self.snapshot:
            arrays[_SNAPSHOT] = bytes_to_array(self.snapshot)
        records = RecordDict(
            {ARRAYS: ArrayRecord(arrays), METRICS: MetricRecord({NUM_EXAMPLES: 1})}
        )
        if self.phases:
            records[PHASES] = MetricRecord(dict(self.phases))
        return records

    @classmethod
    def read(cls, content: RecordDict) -> RoundReply:
        """Read a reply at the server."""
        arrays = content.array_records[ARRAYS]
        phases = content.metric_records.get(PHASES, MetricRecord())
        return cls(
            sealed=arrays["sealed"].data if "sealed" in arrays else b"",
            header=arrays["header"].data if "header" in arrays else b"",
            model=unpack_tensors(_RELEASE, arrays),
            snapshot=arrays[_SNAPSHOT].data if _SNAPSHOT in arrays else b"",
            phases={str(k): float(v) for k, v in phases.items()},  # type: ignore[arg-type]
        )
