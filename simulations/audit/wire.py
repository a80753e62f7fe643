"""The wire of a simulated run: every message that left a hospital, before anything happens to it.

A `WatchedTransport` stands where the hospitals' answers come out. It keeps each answer as it was
given, and how long the hospital's ledger was at that moment; only then may the answer be lost or
changed on its way, as the test of a retry wants it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, bytes_to_array
from simulations.engines.direct_transport import DirectTransport, train_here
from strategies.errors import TrainingStopped

if TYPE_CHECKING:
    from flwr.supercore.run import Run

    from clients.contract.settings import Settings
    from clients.data import Cohorts
    from simulations.audit.copies import Copies
    from simulations.engines.actors import Hospitals

#: Kinds of messages whose answers hold something made from patients' records.
PRIVATE = frozenset({Kind.TRAIN, Kind.FORWARD, Kind.HEAD, Kind.BACKWARD, Kind.VISIT})
#: Kinds whose answers hold figures of records that are declared public.
FIGURES = frozenset({Kind.EVALUATE, Kind.EVALUATE_MODELS})

#: Loggers of what libraries warn of, and of the code of a refusal, which is said in an answer.
_KNOWN = frozenset({"py.warnings", "clients.client_app"})


class Fate(Enum):
    """What becomes of an answer on its way to the server."""

    ARRIVES = "arrives"
    #: The SuperLink says that the node has gone.
    LOST = "lost"
    #: What is sealed in it has another byte, which the server's checks refuse.
    SPOILED = "spoiled"
    #: Server and hospitals are killed there, and all begin again from what their folders hold.
    KILLED = "killed"


class Killed(KeyboardInterrupt):
    """The end of all processes of a run, as a signal would bring it."""


#: What becomes of each answer.
OnTheWay = Callable[["Sent"], Fate]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One answer as it left a hospital.

    Attributes:
        hospital: whose.
        kind: of the message.
        asked: what it was asked.
        content: what left; None where it was a code.
        code: what left instead of a content.
        ledger_bytes: length of the hospital's own ledger when it left.
    """

    hospital: str
    kind: Kind
    asked: RecordDict
    content: RecordDict | None
    code: str
    ledger_bytes: int

    @property
    def place(self) -> tuple[int, int]:
        """Round, or number of the visit, and attempt that were asked for; zeros where none were."""
        words = dict(self.asked.config_records.get("config", {}))
        round, attempt = words.get("visit", words.get("server-round", 0)), words.get("attempt", 0)
        assert isinstance(round, int) and isinstance(attempt, int)
        return round, attempt


@dataclass
class Wire:
    """What left the hospitals of one run, in order.

    Attributes:
        out: the run's folder.
        names: hospitals by the number of their part.
        on_the_way: what happens to an answer after it was seen.
        copies: what answers first places in copies of the hospitals' folders.
        sent: what left.
        copied: what left the copies.
        again: what left where a place was asked for once more.
        last: the last message about records that each hospital was asked.
        killed: whether all processes were killed once.
        overheard: what was logged or printed while hospitals answered, outside their folders.
    """

    out: Path
    names: tuple[str, ...]
    on_the_way: OnTheWay | None = None
    copies: Copies | None = None
    sent: list[Sent] = field(default_factory=list)
    copied: list[Sent] = field(default_factory=list)
    again: list[Sent] = field(default_factory=list)
    last: dict[str, Message] = field(default_factory=dict)
    killed: bool = False
    overheard: list[str] = field(default_factory=list)

    def transport(self, hospitals: Hospitals, nodes: dict[int, int], run: Run) -> WatchedTransport:
        """Return the transport of the run; its nodes have the numbers of their parts."""
        return WatchedTransport(hospitals, nodes, run, self)

    def ledger(self, hospital: str) -> Path:
        """Return where a hospital's ledger is."""
        return self.out / "sites" / hospital / "ledger.jsonl"


@contextmanager
def overhearing(said: list[str]) -> Iterator[None]:
    """Note down what is logged or printed in a block."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name not in _KNOWN:
                said.append(f"{record.name}: {record.getMessage()}")

    listener, printed = Listener(), io.StringIO()
    loggers = [logging.getLogger(), logging.getLogger("flwr")]
    for one in loggers:
        one.addHandler(listener)
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for one in loggers:
            one.removeHandler(listener)
        said += printed.getvalue().splitlines()


class WatchedTransport(DirectTransport):
    """A transport that notes down what leaves a hospital."""

    def __init__(self, hospitals: Hospitals, nodes: dict[int, int], run: Run, wire: Wire) -> None:
        super().__init__(hospitals, nodes, run)
        self._names = {node: wire.names[part] for node, part in nodes.items()}
        self._nodes_of_parts = nodes
        self._asked: dict[str, Message] = {}
        self._wire = wire

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages in, and keep what was asked."""
        asked = list(messages)
        ids = list(super().push_messages(asked))
        self._asked.update(zip(ids, asked, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return an answer, as it arrives, once it is noted down as it left."""
        ids = list(message_ids)
        if self._wire.copies is not None:
            for one in ids:
                self._copy(self._asked[one], self._wire.copies)
        with overhearing(self._wire.overheard):
            replies = list(super().pull_messages(ids))
        return [self._note(reply) for reply in replies]

    def _copy(self, asked: Message, copies: Copies) -> None:
        name = self._names[asked.metadata.dst_node_id]
        folder = self._wire.ledger(name).parent
        reply = copies.answer(asked, name, folder, self._nodes_of_parts)
        if reply is not None:
            self._wire.copied.append(self._sent(asked, reply))

    def _sent(self, asked: Message, reply: Message) -> Sent:
        name = self._names[asked.metadata.dst_node_id]
        path = self._wire.ledger(name)
        return Sent(
            hospital=name,
            kind=Kind(asked.metadata.message_type),
            asked=asked.content,
            content=reply.content if reply.has_content() else None,
            code=str(reply.error.reason) if reply.has_error() else "",
            ledger_bytes=path.stat().st_size if path.is_file() else 0,
        )

    def _ask_again(self, asked: Message, name: str) -> None:
        """Ask for a place once more, and for the one before: of a process that begins anew, too."""
        before = self._wire.last.get(name)
        self._wire.last[name] = asked
        node = asked.metadata.dst_node_id
        for one in (asked, before):
            if one is None:
                continue
            one.metadata.__dict__["_dst_node_id"] = node
            [reply], _ = self._hospitals.answer(one.content, [one.metadata])
            self._be_server()
            self._wire.again.append(self._sent(one, reply))

    def _note(self, reply: Message) -> Message:
        asked = self._asked.pop(reply.metadata.reply_to_message_id)
        sent = self._sent(asked, reply)
        self._wire.sent.append(sent)
        if sent.kind in PRIVATE:
            self._ask_again(asked, sent.hospital)
        fate = self._wire.on_the_way(sent) if self._wire.on_the_way else Fate.ARRIVES
        if fate is Fate.KILLED and not self._wire.killed:
            self._wire.killed = True
            raise Killed
        if fate in (Fate.ARRIVES, Fate.KILLED):
            return reply
        other = _gone(asked) if fate is Fate.LOST else _spoiled(reply, asked)
        other.metadata.__dict__["_message_id"] = reply.metadata.message_id
        return other


def _gone(asked: Message) -> Message:
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, "gone"), reply_to=asked)


def _spoiled(reply: Message, asked: Message) -> Message:
    """Return an answer whose sealed vector has another last byte."""
    arrays = dict(reply.content.array_records[ARRAYS])
    data = bytearray(arrays["sealed"].data)
    data[-1] ^= 1
    arrays["sealed"] = bytes_to_array(bytes(data))
    content = RecordDict({**dict(reply.content), ARRAYS: ArrayRecord(arrays)})
    return Message(content, reply_to=asked)


def watched_run(
    settings: Settings, cohorts: Cohorts, wire: Wire, sites: Sequence[Path] = ()
) -> str:
    """Train to the end; return why it ended before its last round, "" where it did not.

    Args:
        settings: of the run.
        cohorts: where its data are read.
        wire: where what leaves the hospitals is kept.
        sites: their own files, where they are no simulated ones.
    """
    # What it gives away is found out from the wire, not by an audit of its own.
    settings = settings.with_config({"audit.enabled": False})
    try:
        while True:
            try:
                train_here(settings, cohorts, wire.transport, sites)
                break
            except Killed:
                continue
    except TrainingStopped as stopped:
        return str(stopped) or type(stopped).__name__
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
