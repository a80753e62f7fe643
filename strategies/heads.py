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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict

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
from crypto.headers import HeaderKind, SignedHeader
from crypto.identity import verify_signature
from crypto.rosters import Roster
from crypto.whole_file import locked, write_private
from strategies.conversation import fault_code, renewed
from strategies.errors import TrainingStopped
from strategies.replies import BadReply, one_bad_reply

if TYPE_CHECKING:
    from strategies.conversation import Conversation
    from strategies.nodes import Nodes
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
    _nodes: Nodes | None = None
    _in_vain: dict[int, int] = field(default_factory=dict)
    _news: bool = False
    #: What the file was like when this run read or wrote it last.
    _last: tuple[int, int, int] | None = None

    def know(self, nodes: Nodes) -> None:
        """Take heads of these hospitals from now on, each under its own name and key."""
        self._nodes = nodes
        if self.path is not None:
            self.conversation.seen, self.conversation.kept = self._see_answer, self._keep_news

    def _see_answer(self, reply: Message) -> None:
        """Take the head beside an answer; one that is none of its sender's says nothing."""
        with suppress(BadReply), one_bad_reply():
            if data := head_in(reply.content):
                signed = SignedHeader.from_bytes(data)
                _verify(signed, self._key_of(signed))
                if signed.header.kind is HeaderKind.WITNESS:
                    self._take(signed)
                    self._news = True

    def _key_of(self, signed: SignedHeader) -> bytes:
        """Return the key of the hospital that a header names, b"" where it is no member."""
        keys = self._nodes.public_keys if self._nodes is not None else {}
        return keys.get(signed.header.sender, b"")

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
        made = cls(conversation, tracking, training, bind, path)
        made._take_in(path)
        return made

    def _take_in(self, path: Path) -> None:
        """Take in what other runs have written into the file since.

        Raises:
            TrainingStopped: the file cannot be read.
        """
        try:
            found = path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            if state == self._last:
                return
            kept = json.loads(path.read_text(encoding="utf-8"))
            memory = HeaderMemory.from_json(kept["headers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingStopped(
                f"{path} cannot be read ({error}); it holds what hospitals have signed of their "
                "ledgers. Restore it, or move it away to begin it anew."
            ) from error
        self._memory.merge(memory)

    def packed(self) -> bytes:
        """Return what goes to every hospital that joins: each finds its own signature itself."""
        newest = [header for _, header in self._memory.all()]
        return pack(newest[-MOST_PACKED:])

    def see_roster(self, roster: bytes) -> None:
        """Keep what the headers of a closed round say, all verified by whoever closed it."""
        if self.path is not None:
            self.see(signed.to_bytes() for signed in Roster.from_bytes(roster).headers)

    def see(self, headers: Iterable[bytes]) -> None:
        """Keep what verified headers say of their senders' ledgers."""
        if self.path is None:
            return
        for data in headers:
            self._take(SignedHeader.from_bytes(data))
        self._write()

    def settled(self, asked: Iterable[Message], replies: Iterable[Message]) -> Iterator[Message]:
        """Yield replies; who waits for vouches is brought them, and asked the same once more."""
        by_node = {message.metadata.dst_node_id: message for message in asked}
        behind: dict[int, Message] = {}
        for reply in replies:
            if _is_behind(reply):
                behind[reply.metadata.src_node_id] = reply
            else:
                yield reply
        sound = self._settle([node for node in behind if self._is_due(node)])
        yield from (reply for node, reply in behind.items() if node not in sound)
        if sound:
            for reply in self.conversation.ask(renewed(by_node[node]) for node in sound):
                if not _is_behind(reply):
                    self._in_vain.pop(reply.metadata.src_node_id, None)
                yield reply

    def _is_due(self, node: int) -> bool:
        """Whether peers are asked for a hospital now: after 1, 2, 4, 8, ... times in vain."""
        times = self._in_vain.get(node, 0)
        self._in_vain[node] = times + 1
        return times & (times - 1) == 0

    def _settle(self, nodes: Iterable[int]) -> list[int]:
        """Have peers vouch for hospitals' ledgers, for all at once; returns those that go on."""
        asked = WitnessRequest(training=self.training, bind=self.bind)
        stands = self._ask(dict.fromkeys(nodes, asked))
        waiting = {n: one for n, one in stands.items() if one.standing is Standing.WAITING}
        vouches = self._vouches(waiting)
        stands |= self._ask(
            {
                node: replace(
                    asked,
                    evidence=self._memory.of(one.key),
                    vouches=tuple(vouches[node]),
                )
                for node, one in waiting.items()
            }
        )
        return [node for node, one in stands.items() if one.standing is Standing.SOUND]

    def _ask(self, requests: Mapping[int, WitnessRequest]) -> dict[int, WitnessReply]:
        """Return where hospitals say that their ledgers stand, by node; bad answers are none."""
        asked = [Message(one.content(), node, Kind.WITNESS) for node, one in requests.items()]
        found = {}
        for reply in self.conversation.ask(asked) if asked else ():
            with suppress(BadReply), one_bad_reply():
                found[reply.metadata.src_node_id] = _read_witness(reply)
        for one in found.values():
            # Anybody can sign in another's name, with a key of its own.
            if one.key == self._key_of(SignedHeader.from_bytes(one.header)):
                self.see([one.header])
        return found

    def _vouches(self, waiting: Mapping[int, WitnessReply]) -> dict[int, list[Vouch]]:
        """Return what peers answer about each hospital that waits: by the nonce that they sign."""
        nonces = {_nonce(one.header): node for node, one in waiting.items()}
        nodes = list(self.conversation.grid.get_node_ids()) if waiting else []
        found: dict[int, list[Vouch]] = {node: [] for node in waiting}
        asked = [
            Message(content, other, Kind.VOUCH)
            for node, content in ((n, self._question(one)) for n, one in waiting.items())
            for other in nodes
            if other != node
        ]
        for reply in self.conversation.ask(asked) if asked else ():
            with suppress(BadReply), one_bad_reply():
                if not reply.has_error():
                    vouch = VouchReply.read(reply.content).vouch
                    of_one = found.get(nonces.get(_nonce(vouch.header), -1), [])
                    if len(of_one) < len(nodes):
                        of_one.append(vouch)
        return found

    def _question(self, stands: WitnessReply) -> RecordDict:
        return VouchRequest(
            training=self.training, bind=self.bind, witness=stands.header, key=stands.key
        ).content()

    def _take(self, signed: SignedHeader) -> None:
        """Keep a verified header of a member; nothing else is kept."""
        key = self._key_of(signed)
        found = self._memory.take(key, signed) if key else None
        if isinstance(found, Copied) and found.sender not in self.copied:
            self.copied.add(found.sender)
            self.tracking.record(
                "warning",
                hospital=found.sender,
                message=f"the ledger of {found.sender} is in use in two places: entry "
                f"{found.entry} has two heads. One of them is a copy and must be ended.",
            )

    def _write(self) -> None:
        if self.path is None:
            return
        # Runs that go on at once share the file, and none may undo what another wrote.
        with locked(self.path.with_name(f".{FILE}.lock")):
            self._take_in(self.path)
            write_private(self.path, json.dumps({"headers": self._memory.to_json()}).encode())
            found = self.path.stat()
            self._last = found.st_ino, found.st_mtime_ns, found.st_size


def _is_behind(reply: Message) -> bool:
    return reply.has_error() and fault_code(reply) == Code.LEDGER_BEHIND


def _nonce(header: bytes) -> bytes:
    return SignedHeader.from_bytes(header).header.nonce


def _read_witness(reply: Message) -> WitnessReply:
    """Return a witness that is signed by the key that it names.

    Raises:
        BadReply: it is an error, or a header of another kind.
        SealingError: the signature is wrong.
        ValueError: a field is missing, of another kind, or of another size.
    """
    if reply.has_error():
        raise BadReply
    answer = WitnessReply.read(reply.content)
    signed = SignedHeader.from_bytes(answer.header)
    _verify(signed, answer.key)
    if signed.header.kind is not HeaderKind.WITNESS:
        raise BadReply
    return answer


def _verify(signed: SignedHeader, key: bytes) -> None:
    if not key:
        raise BadReply
    header = signed.header
    verify_signature(key, signed.signature, header.signed_text(), header.sender)
