"""What the server keeps on disk so that a training can be resumed by another run.

Sealed totals, sealed snapshots, public parameters, and what hospitals released to the server: all
that is here it holds anyway, and no more. Keys, replicas and books are kept by the hospitals.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crypto.plans import SealingPlan
from crypto.whole_file import locked, write_private
from strategies.errors import TrainingStopped
from strategies.run.fixed_roster import FixedRoster, closed_of, packed, parts_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clients.contract.messages import OpenedRound
    from crypto.roles import Place

#: A line for each attempt that was asked for; a file is written anew for everything else.
_ATTEMPTS = "attempts.jsonl"
#: Released models that are kept, and their bytes in all.
MOST_RELEASES, MOST_RELEASED_BYTES = 10, 256 * 1024**2
#: What a journal of this form says of itself.
_FORM = 3


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a journal holds of a training that has begun.

    Attributes:
        training: id of the training.
        nonce: random bytes in the id; ``b""`` for an id that is a word.
        terms: the canonical text of the terms.
        bind: digest of terms and members, to which hospitals' headers are bound.
        public_keys: signing keys of the hospitals by name.
        plan: public sealing parameters.
        key_id: public name of the training's keys.
        noise_multiplier: sigma, as it was calibrated.
        committee: who holds shares of keys, where that was drawn; else empty.
        closed: sealed totals since the snapshot, by round.
        opened: digests, hex, of rounds up to the snapshot.
        snapshot: the last sealed snapshot, or ``b""``.
        snapshot_round: the round after which it was taken.
        ended: the round after which hospitals were asked to confirm; 0 before.
        note: why that was before the last round; "" where it was not.
    """

    training: str
    nonce: bytes
    terms: str
    bind: bytes
    public_keys: Mapping[str, bytes]
    plan: SealingPlan
    key_id: bytes
    noise_multiplier: float
    committee: tuple[str, ...] = ()
    closed: dict[int, OpenedRound] = field(default_factory=dict)
    opened: dict[int, str] = field(default_factory=dict)
    snapshot: bytes = b""
    snapshot_round: int = 0
    ended: int = 0
    note: str = ""

    @property
    def round(self) -> int:
        """The last closed round."""
        return max(self.closed, default=self.snapshot_round)


class Journal:
    """The server's files of one training, in the run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ceremony = folder / "ceremony.json"
        self._made: dict[str, tuple[int, int, int]] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a training to one server at a time: two would forget each other's paid sums.

        Raises:
            TrainingStopped: another process leads it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._folder / ".lock", wait=False))
            except BlockingIOError:
                raise TrainingStopped(
                    f"another process leads the training in {self._folder.parent}; nothing was "
                    "asked of a hospital"
                ) from None
            yield

    def keep_ceremony(
        self,
        *,
        training: str,
        nonce: bytes,
        terms: str,
        bind: bytes,
        public_keys: Mapping[str, bytes],
        plan: SealingPlan,
        key_id: bytes,
        noise_multiplier: float,
        committee: tuple[str, ...] = (),
    ) -> None:
        """Keep who takes part on which terms, and the public parameters."""
        content = {
            "form": _FORM,
            "training": training,
            "nonce": nonce.hex(),
            "terms": terms,
            "bind": bind.hex(),
            "public-keys": {name: key.hex() for name, key in public_keys.items()},
            "plan": plan.to_json(),
            "key-id": key_id.hex(),
            "noise-multiplier": noise_multiplier,
            "committee": list(committee),
        }
        self._write("ceremony.json", json.dumps(content).encode())

    def keep_round(self, number: int, closed: OpenedRound) -> None:
        """Keep a closed round before anybody is told of it."""
        self._write(f"round-{number}.bin", packed(parts_of(closed)))

    def fix_roster(self, fixed: FixedRoster) -> None:
        """Keep the one roster of a place before any holder of shares is asked to answer it."""
        self._write("fixed.bin", fixed.to_bytes())

    def read_fixed(self, place: Place) -> FixedRoster | None:
        """Return the roster of a place, if one was fixed."""
        path = self._folder / "fixed.bin"
        fixed = FixedRoster.from_bytes(path.read_bytes()) if path.exists() else None
        return fixed if fixed is not None and fixed.place == place else None

    def forget_round(self, number: int) -> None:
        """Forget a closed round whose total hospitals refused."""
        (self._folder / f"round-{number}.bin").unlink(missing_ok=True)

    def keep_snapshot(
        self, after: int, snapshot: bytes, opened: Mapping[int, str] | None = None
    ) -> None:
        """Keep a snapshot and forget the totals that it stands for, but for their digests."""
        if opened:
            kept = {str(n): digest for n, digest in opened.items() if n <= after}
            self._write("opened.json", json.dumps(kept).encode())
        self._write(f"snapshot-{after}.bin", snapshot)
        for path in self._numbered("snapshot"):
            if self._number(path) < after:
                path.unlink()
        for path in self._numbered("round"):
            if self._number(path) <= after:
                path.unlink()

    def keep_attempt(self, number: int, attempt: int, purpose: str) -> None:
        """Keep that an attempt is about to be asked for.

        Args:
            number: of the round or visit.
            attempt: of it.
            purpose: whose attempts are counted together.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps([purpose, number, attempt]) + "\n"
        with (self._folder / _ATTEMPTS).open("a", encoding="utf-8") as file:
            if self._made is None:
                # An end that a crash tore is a line by itself, which nobody reads.
                line = "\n" + line if file.tell() else line
                self._made = self.read_attempts()
            file.write(line)
        made, _, _ = self._made.get(purpose, (0, 0, 0))
        self._made[purpose] = (made + 1, number, attempt)

    def read_attempts(self) -> dict[str, tuple[int, int, int]]:
        """Return (how many, round of the last, its attempt) of all attempts asked for so far."""
        if self._made is not None:
            return dict(self._made)
        path, made = self._folder / _ATTEMPTS, dict[str, tuple[int, int, int]]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with suppress(ValueError):
                purpose, number, attempt = json.loads(line)
                made[purpose] = (made.get(purpose, (0, 0, 0))[0] + 1, number, attempt)
        return made

    def keep_culprits(self, content: Mapping[str, object]) -> None:
        """Keep who is left out, and why."""
        self._write("culprits.json", json.dumps(content).encode())

    def read_culprits(self) -> dict[str, Any]:
        """Return what `keep_culprits` kept; empty where nobody was ever left out."""
        return self._read_json("culprits.json")

    def keep_end(self, number: int, note: str) -> None:
        """Keep that hospitals are asked to confirm and no round follows; 0: one follows again."""
        self._write("end.json", json.dumps({"round": number, "note": note}).encode())

    def keep_middle(self, number: int, state: bytes) -> None:
        """Keep the server's own part of a split model after a round, and of the two before it."""
        self._write(f"middle-{number}.bin", state)
        for path in self._numbered("middle"):
            if self._number(path) < number - 2:
                path.unlink()

    def read_middles(self) -> dict[int, bytes]:
        """Return the server's part of a split model by the round after which it was kept."""
        return {self._number(path): path.read_bytes() for path in self._numbered("middle")}

    def keep_member(self, number: int, model: bytes) -> None:
        """Keep a finished model of an ensemble, whose hospital need not be asked again."""
        self._write(f"member-{number}.bin", model)

    def read_members(self) -> dict[int, bytes]:
        """Return the finished models of an ensemble by number."""
        return {self._number(path): path.read_bytes() for path in self._numbered("member")}

    def keep_release(self, number: int, model: bytes) -> None:
        """Keep a model that hospitals released after a round; of many, the last that have room."""
        self._write(f"release-{number}.bin", model)
        room = max(1, min(MOST_RELEASES, MOST_RELEASED_BYTES // max(len(model), 1)))
        for path in sorted(self._numbered("release"), key=self._number)[:-room]:
            path.unlink()

    def read_releases(self) -> dict[int, bytes]:
        """Return the last released models by the round after which they were, in order."""
        paths = sorted(self._numbered("release"), key=self._number)
        return {self._number(path): path.read_bytes() for path in paths}

    def read(self) -> Kept | None:
        """Return what is kept, or ``None`` if no training has begun here.

        Raises:
            TrainingStopped: the training was begun by an earlier version.
        """
        if not self._ceremony.exists():
            return None
        content = json.loads(self._ceremony.read_text(encoding="utf-8"))
        if content.get("form") != _FORM:
            raise TrainingStopped(
                f"training {content.get('training')} was begun by an earlier version of this app "
                "and cannot go on; its hospitals have ended it too. Begin a new training."
            )
        snapshots = self._numbered("snapshot")
        last = max(snapshots, key=self._number, default=None)
        end = self._read_json("end.json")
        return Kept(
            training=str(content["training"]),
            nonce=bytes.fromhex(content["nonce"]),
            terms=str(content["terms"]),
            bind=bytes.fromhex(content["bind"]),
            public_keys={n: bytes.fromhex(k) for n, k in content["public-keys"].items()},
            plan=SealingPlan.from_json(content["plan"]),
            key_id=bytes.fromhex(content["key-id"]),
            noise_multiplier=float(content["noise-multiplier"]),
            committee=tuple(content["committee"]),
            closed=dict(sorted((self._number(p), _opened(p)) for p in self._numbered("round"))),
            opened={int(n): str(d) for n, d in self._read_json("opened.json").items()},
            snapshot=last.read_bytes() if last else b"",
            snapshot_round=self._number(last) if last else 0,
            ended=int(end.get("round", 0)),
            note=str(end.get("note", "")),
        )

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_private(self._folder / name, content, durable=False)

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _numbered(self, kind: str) -> list[Path]:
        return list(self._folder.glob(f"{kind}-*.bin"))

    @staticmethod
    def _number(path: Path) -> int:
        return int(path.stem.rpartition("-")[2])


def _opened(path: Path) -> OpenedRound:
    return closed_of(unpacked(path.read_bytes()))
