"""What the server does so that no hospital's ledger goes back unnoticed: it keeps and relays heads.

The newest signed header of each hospital's ledger lies above the run folders, so that whoever comes
back from a backup meets its own signature. The server cannot make one up. Where a hospital waits
for its peers to vouch, the server carries question and answers; all it can do is delay.

Simulated hospitals' ledgers live and die with their run, so nothing is kept there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.faults import Code
from clients.contract.header_memory import Copied, HeaderMemory
from clients.contract.kinds import Kind
from clients.contract.witness_messages import (
    MOST_PACKED,
    Standing,
    Vouch,
    VouchReply,
    VouchRequest,
    WitnessReply,
    WitnessRequest,
    head_in,
    pack,
)
from crypto.errors import SealingError
from crypto.headers import HeaderKind, SignedHeader
from crypto.identity import verify_signature
from crypto.rosters import Roster
from crypto.whole_file import write_private
from strategies.conversation import fault_code, renewed
from strategies.errors import TrainingStopped
from strategies.replies import BadReply, one_bad_reply

if TYPE_CHECKING:
    from strategies.conversation import Conversation
    from strategies.run.tracking import Tracking

#: Beside the run folders, where somebody has put it: see `keep_heads_in`.
FILE = "witness.json"


def keep_heads_in(runs: Path) -> None:
    """Begin the file of heads in a folder of runs of real hospitals, if it is not there."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / FILE
    if not path.exists():
        write_private(path, json.dumps({"headers": []}).encode())


@dataclass
class Heads:
    """Heads of hospitals' ledgers, as one run of the server keeps and relays them.

    Attributes:
        conversation: with the hospitals.
        tracking: where a copied ledger is recorded.
        training: id of the training.
        bind: digest of its terms, hex.
        path: of the file; None in a simulation.
        copied: hospitals whose ledger is in use in two places.
    """

    conversation: Conversation
    tracking: Tracking
    training: str
    bind: str
    path: Path | None
    copied: set[str] = field(default_factory=set)
    _memory: HeaderMemory = field(default_factory=HeaderMemory)
    _keys: dict[int, bytes] = field(default_factory=dict)
    _news: bool = False

    def know(self, keys: Mapping[int, bytes]) -> None:
        """Take heads from answers of these nodes from now on, signed with these keys."""
        if self.path is not None:
            self._keys |= keys
            self.conversation.seen, self.conversation.kept = self._see_answer, self._keep_news

    def _see_answer(self, reply: Message) -> None:
        """Take the head beside an answer; one that is none of its sender's says nothing."""
        key = self._keys.get(reply.metadata.src_node_id)
        if key is None:
            return
        with suppress(BadReply), one_bad_reply():
            if data := head_in(reply.content):
                signed = SignedHeader.from_bytes(data)
                _verify(signed, key)
                if signed.header.kind is HeaderKind.WITNESS:
                    self._take(key, signed)
                    self._news = True

    def _keep_news(self) -> None:
        if self._news:
            self._news = False
            self._write()

    @classmethod
    def beside(
        cls,
        runs: Path,
        conversation: Conversation,
        tracking: Tracking,
        *,
        training: str,
        bind: str,
    ) -> Heads:
        """Return the heads that are kept beside run folders, where they are kept there.

        Raises:
            TrainingStopped: the file cannot be read.
        """
        path = runs / FILE
        if not path.is_file():
            return cls(conversation, tracking, training, bind, None)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            memory = HeaderMemory.from_json(kept["headers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingStopped(
                f"{path} cannot be read ({error}); it holds what hospitals have signed of their "
                "ledgers. Restore it, or move it away to begin it anew."
            ) from error
        return cls(conversation, tracking, training, bind, path, _memory=memory)

    def packed(self) -> bytes:
        """Return what goes to every hospital that joins: each finds its own signature itself."""
        newest = [header for _, header in self._memory.all()]
        return pack(newest[-MOST_PACKED:])

    def see_roster(self, roster: bytes, public_keys: Mapping[str, bytes]) -> None:
        """Keep what the headers of a closed round say, all verified by whoever closed it."""
        if self.path is not None:
            self.see(
                (signed.to_bytes() for signed in Roster.from_bytes(roster).headers), public_keys
            )

    def see(self, headers: Iterable[bytes], public_keys: Mapping[str, bytes]) -> None:
        """Keep what verified headers say of their senders' ledgers."""
        if self.path is None:
            return
        for data in headers:
            signed = SignedHeader.from_bytes(data)
            key = public_keys.get(signed.header.sender)
            if key is not None:
                self._take(key, signed)
        self._write()

    def settled(self, asked: Iterable[Message], replies: Iterable[Message]) -> Iterator[Message]:
        """Yield replies; who waits for vouches is brought them, and asked the same once more."""
        by_node = {message.metadata.dst_node_id: message for message in asked}
        behind = []
        for reply in replies:
            if reply.has_error() and fault_code(reply) == Code.LEDGER_BEHIND:
                behind.append(reply)
            else:
                yield reply
        again = []
        for reply in behind:
            node = reply.metadata.src_node_id
            if self._settle(node):
                again.append(renewed(by_node[node]))
            else:
                yield reply
        if again:
            yield from self.conversation.ask(again)

    def _settle(self, node: int) -> bool:
        """Have peers vouch for a hospital's ledger; returns whether it goes on."""
        stands = self._ask(node, WitnessRequest(training=self.training, bind=self.bind))
        if stands is None:
            return False
        known = self._memory.of(stands.key)
        if stands.standing is Standing.WAITING:
            vouches = tuple(self._vouches(node, stands))
            stands = self._ask(
                node,
                WitnessRequest(
                    training=self.training, bind=self.bind, evidence=known, vouches=vouches
                ),
            )
        return stands is not None and stands.standing is Standing.SOUND

    def _ask(self, node: int, request: WitnessRequest) -> WitnessReply | None:
        [reply] = self.conversation.ask([Message(request.content(), node, Kind.WITNESS)])
        if reply.has_error():
            return None
        try:
            with one_bad_reply():
                answer = WitnessReply.read(reply.content)
                signed = SignedHeader.from_bytes(answer.header)
                _verify(signed, answer.key)
                if signed.header.kind is not HeaderKind.WITNESS:
                    raise BadReply
        except BadReply:
            return None
        if self.path is not None:
            self._take(answer.key, signed)
            self._write()
        return answer

    def _vouches(self, node: int, stands: WitnessReply) -> Iterator[Vouch]:
        content = VouchRequest(
            training=self.training, bind=self.bind, witness=stands.header, key=stands.key
        ).content()
        others = [one for one in self.conversation.grid.get_node_ids() if one != node]
        for reply in self.conversation.ask(Message(content, one, Kind.VOUCH) for one in others):
            if reply.has_error():
                continue
            try:
                with one_bad_reply():
                    yield VouchReply.read(reply.content).vouch
            except BadReply:
                continue

    def _take(self, key: bytes, signed: SignedHeader) -> None:
        found = self._memory.take(key, signed)
        if isinstance(found, Copied) and found.sender not in self.copied:
            self.copied.add(found.sender)
            self.tracking.record(
                "warning",
                hospital=found.sender,
                message=f"the ledger of {found.sender} is in use in two places: entry "
                f"{found.entry} has two heads. One of them is a copy and must be ended.",
            )

    def _write(self) -> None:
        if self.path is not None:
            write_private(self.path, json.dumps({"headers": self._memory.to_json()}).encode())


def _verify(signed: SignedHeader, key: bytes) -> None:
    try:
        verify_signature(key, signed.signature, signed.header.signed_text(), signed.header.sender)
    except SealingError as error:
        raise BadReply from error
