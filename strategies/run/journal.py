"""What the server keeps on disk so that a training can be resumed by another run.

Sealed totals, sealed snapshots, public parameters, and what hospitals released to the server: all
that is here it holds anyway, and no more. Keys, replicas and ledgers are kept by the hospitals.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clients.contract.messages import OpenedRound
from crypto.plans import SealingPlan
from crypto.whole_file import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a journal holds of a training that has begun.

    Attributes:
        training: id of the training.
        public_keys: signing keys of the hospitals by name.
        plan: public sealing parameters.
        key_id: public name of the training's keys.
        noise_multiplier: sigma, as it was calibrated.
        closed: sealed totals since the snapshot, by round.
        snapshot: the last sealed snapshot, or ``b""``.
        snapshot_round: the round after which it was taken.
    """

    training: str
    public_keys: Mapping[str, bytes]
    plan: SealingPlan
    key_id: bytes
    noise_multiplier: float
    closed: dict[int, OpenedRound] = field(default_factory=dict)
    snapshot: bytes = b""
    snapshot_round: int = 0

    @property
    def round(self) -> int:
        """The last closed round."""
        return max(self.closed, default=self.snapshot_round)


class Journal:
    """The server's files of one training, in the run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ceremony = folder / "ceremony.json"

    def keep_ceremony(
        self,
        *,
        training: str,
        public_keys: Mapping[str, bytes],
        plan: SealingPlan,
        key_id: bytes,
        noise_multiplier: float,
    ) -> None:
        """Keep who takes part, and the public parameters."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {
            "training": training,
            "public-keys": {name: key.hex() for name, key in public_keys.items()},
            "plan": plan.to_json(),
            "key-id": key_id.hex(),
            "noise-multiplier": noise_multiplier,
        }
        write_private(self._ceremony, json.dumps(content).encode(), durable=False)

    def keep_round(self, number: int, closed: OpenedRound) -> None:
        """Keep a closed round before anybody is told of it."""
        size = len(closed.roster).to_bytes(8, "big")
        data = size + closed.roster + closed.total
        write_private(self._folder / f"round-{number}.bin", data, durable=False)

    def keep_snapshot(self, after: int, snapshot: bytes) -> None:
        """Keep a snapshot and forget the totals that it stands for."""
        write_private(self._folder / f"snapshot-{after}.bin", snapshot, durable=False)
        for path in self._numbered("snapshot"):
            if self._number(path) < after:
                path.unlink()
        for path in self._numbered("round"):
            if self._number(path) < after:
                path.unlink()

    def keep_middle(self, number: int, state: bytes) -> None:
        """Keep the server's own part of a split model after a round, and the one before it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_private(self._folder / f"middle-{number}.bin", state, durable=False)
        for path in self._numbered("middle"):
            if self._number(path) < number - 1:
                path.unlink()

    def read_middle(self, number: int) -> bytes:
        """Return the server's part of a split model after a round."""
        return (self._folder / f"middle-{number}.bin").read_bytes()

    def keep_member(self, number: int, model: bytes) -> None:
        """Keep a finished model of an ensemble, whose hospital need not be asked again."""
        write_private(self._folder / f"member-{number}.bin", model, durable=False)

    def read_members(self) -> dict[int, bytes]:
        """Return the finished models of an ensemble by number."""
        return {self._number(path): path.read_bytes() for path in self._numbered("member")}

    def read(self) -> Kept | None:
        """Return what is kept, or ``None`` if no training has begun here."""
        if not self._ceremony.exists():
            return None
        content = json.loads(self._ceremony.read_text(encoding="utf-8"))
        snapshots = self._numbered("snapshot")
        last = max(snapshots, key=self._number, default=None)
        return Kept(
            training=str(content["training"]),
            public_keys={n: bytes.fromhex(k) for n, k in content["public-keys"].items()},
            plan=SealingPlan.from_json(content["plan"]),
            key_id=bytes.fromhex(content["key-id"]),
            noise_multiplier=float(content["noise-multiplier"]),
            closed=dict(sorted((self._number(p), _opened(p)) for p in self._numbered("round"))),
            snapshot=last.read_bytes() if last else b"",
            snapshot_round=self._number(last) if last else 0,
        )

    def _numbered(self, kind: str) -> list[Path]:
        return list(self._folder.glob(f"{kind}-*.bin"))

    @staticmethod
    def _number(path: Path) -> int:
        return int(path.stem.rpartition("-")[2])


def _opened(path: Path) -> OpenedRound:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "big")
    return OpenedRound(roster=data[8 : 8 + size], total=data[8 + size :])
