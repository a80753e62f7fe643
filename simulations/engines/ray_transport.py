"""Messages over Ray: the same ServerApp and ClientApp, without queues that are polled.

Messages that share one content, as a round's do, go into Ray's object store once, unless it is so
small that carrying it with each call costs less. Each hospital has an actor of its own choice, so
that what the process has cached for it is found again; an actor with nothing left to do takes work
from the one with most.

Replies of an actor on this machine do not go through Ray, only word of where they lie.

A call to an actor costs milliseconds whatever is in it, so hospitals are called together. How many
follows from what their work took in the last rounds: the first call holds half of what an actor has
to do, the next half of the rest, and so on, so that calls are few and the last are short enough to
be shared out.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import ray
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.supercore.run import Run

from simulations.engines.lent_memory import Borrower, Lent, home
from simulations.engines.local_transport import LocalTransport

logger = logging.getLogger(__name__)

#: Least work in a call, in seconds: long beside what a call costs.
CALL_SECONDS = 0.075
#: Most bytes in the replies of one call, which are held together, and most messages.
CALL_BYTES = 16 * 2**20
CALL_MESSAGES = 64
#: Most bytes of a content that is carried with each call, not by the object store.
CARRIED_BYTES = 512 * 2**10
#: How much of a hospital's expected seconds its last answer decides.
LAST_COUNTS = 0.5
#: Calls that wait at an actor, so that it never waits for the driver.
CALLS_IN_FLIGHT = 2
#: Times that a call is made, should the process that answers it die: what it holds may be why.
ATTEMPTS = 2
#: Longest that `pull_messages` waits for a first reply, in seconds.
PULL_SECONDS = 0.5
#: Longest wait for the actors' word about their memory, in seconds.
PEAK_SECONDS = 2.0
#: Flower's own code for a node that cannot be reached.
NODE_UNAVAILABLE = 5


@dataclass(slots=True)
class _Call:
    content: Any
    envelopes: list[Metadata]
    home: int
    seconds: float
    fair_until: float
    attempt: int = 1


class Actors(Protocol):
    """Actors by their places, where others can take the places of those that died."""

    actors: list[Any]

    def replace(self, place: int, actor: Any) -> None:
        """Put a new actor in the place of one that died, unless that was done before."""

    def watch(self) -> None:
        """Tell the user once if none has begun for long."""


class RayTransport(LocalTransport):
    """Carries messages between a ServerApp in this process and hospitals in Ray actors.

    What an actor was asked when it died is asked once more, of another in its place. A hospital
    that had answered by then, and whose answer is lost, refuses the place, as it must; the server's
    next attempt is a new one, which is paid for.

    Args:
        crew: the actors.
        nodes: part of the data by node id.
        run: the run that messages belong to.
        together: whether hospitals of an actor are best asked in one call, not shared out.
        processors: that actors and their copies work on; 0: one for each actor.
    """

    def __init__(
        self,
        crew: Actors,
        nodes: dict[int, int],
        run: Run,
        *,
        together: bool = False,
        processors: int = 0,
    ) -> None:
        super().__init__(nodes, run)
        self._crew = crew
        self._together = together
        places = len(crew.actors)
        self._home = {node: place % places for node, place in nodes.items()}
        self._waiting: list[deque[_Call]] = [deque() for _ in range(places)]
        self._running: dict[Any, tuple[int, Any, _Call, int]] = {}
        #: Where each actor may write replies: a place is free until a call has it, and again when
        #: what was written there has been read.
        self._free = [list(range(CALLS_IN_FLIGHT)) for _ in range(places)]
        self._near, self._borrower = home(), Borrower()
        self._expected: dict[tuple[int, str], float] = {}
        self._processors = max(places, processors)
        self._reply_bytes: dict[str, int] = {}
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to the actors; returns their ids in order."""
        ids: list[str] = []
        grouped: dict[tuple[int, int], list[Metadata]] = {}
        contents: dict[int, RecordDict] = {}
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            ids.append(message.metadata.message_id)
            contents[id(message.content)] = message.content
            home = self._home[message.metadata.dst_node_id]
            grouped.setdefault((id(message.content), home), []).append(message.metadata)
        stored = {key: _to_send(content) for key, content in contents.items()}
        work = sum(self._seconds(one) for envelopes in grouped.values() for one in envelopes)
        fair_until = time.time() + work / self._processors
        for (key, home), envelopes in grouped.items():
            self._waiting[home].extend(self._calls(stored[key], envelopes, home, fair_until))
        self._submit()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have come; waits a moment for the first of them."""
        wanted = set(message_ids)
        if not wanted & self._replies.keys() and self._running:
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=PULL_SECONDS)
            for reference in ready:
                self._collect(reference)
            if not ready:
                self._crew.watch()
            self._submit()
        return [self._replies.pop(i) for i in sorted(wanted & self._replies.keys())]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and return all replies that come in time."""
        waiting = set(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            for reply in self.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies

    def peak_memory_bytes(self) -> list[int]:
        """Return the most memory that each actor has held; nothing if one does not say in time."""
        try:
            asked = [actor.peak_memory_bytes.remote() for actor in self._crew.actors]
            return list(ray.get(asked, timeout=PEAK_SECONDS))
        except ray.exceptions.RayError:
            return []

    def _calls(
        self, content: Any, envelopes: list[Metadata], home: int, fair_until: float
    ) -> Iterator[_Call]:
        """Divide messages among calls, the longest work first: it is what others wait for."""
        ordered = deque(sorted(envelopes, key=self._seconds, reverse=True))
        left = sum(map(self._seconds, ordered))
        while ordered:
            most = CALL_BYTES // max(1, self._reply_bytes.get(ordered[0].message_type, 0))
            shared_out = left > 2 * CALL_SECONDS and not self._together
            wanted = left / 2 if shared_out else left
            seconds = 0.0
            together: list[Metadata] = []
            while ordered and seconds < wanted and len(together) < max(1, min(CALL_MESSAGES, most)):
                together.append(ordered.popleft())
                seconds += self._seconds(together[-1])
            left -= seconds
            yield _Call(content, together, home, seconds, fair_until)

    def _seconds(self, envelope: Metadata) -> float:
        """Return how long a hospital is expected to work on a message."""
        kind = (envelope.dst_node_id, envelope.message_type)
        return self._expected.get(kind, CALL_SECONDS / 2)

    def _learn(self, call: _Call, seconds: list[float], size: int) -> None:
        """Take note of how long each message of a call took, and of how large replies are."""
        for envelope, taken in zip(call.envelopes, seconds, strict=True):
            kind = (envelope.dst_node_id, envelope.message_type)
            before = self._expected.get(kind, taken)
            self._expected[kind] = before + LAST_COUNTS * (taken - before)
        self._reply_bytes[call.envelopes[0].message_type] = size // len(call.envelopes)

    def _submit(self) -> None:
        for index, actor in enumerate(self._crew.actors):
            free, own = self._free[index], self._waiting[index]
            while free:
                idle = len(free) == CALLS_IN_FLIGHT
                source = own or (max(self._waiting, key=_work) if idle else own)
                if not source:
                    break
                call, place = source.popleft() if source is own else source.pop(), free.pop()
                reference = actor.answer_packed.remote(
                    call.content, call.envelopes, call.fair_until, self._near, place
                )
                self._running[reference] = (index, actor, call, place)

    def _collect(self, reference: Any) -> None:
        index, actor, call, place = self._running.pop(reference)
        try:
            replies, seconds, size = self._answered(reference, actor, (index, place))
            self._learn(call, seconds, size)
        except ray.exceptions.RayError as error:
            # What Ray ends for want of memory is dead too.
            if isinstance(error, (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)):
                self._crew.replace(index, actor)
            if call.attempt < ATTEMPTS:
                call.attempt += 1
                logger.warning("a process of hospitals died; its messages are sent once more")
                self._waiting[index].appendleft(call)
                return
            logger.error("a process of hospitals died again: %s", type(error).__name__)
            replies = [self._unavailable(envelope) for envelope in call.envelopes]
        finally:
            self._free[index].append(place)
        for reply in replies:
            reply.metadata.__dict__["_message_id"] = str(uuid4())
            self._replies[reply.metadata.reply_to_message_id] = reply

    def _answered(
        self, reference: Any, actor: Any, place: tuple[int, int]
    ) -> tuple[list[Message], list[float], int]:
        """Return the replies of a call, the seconds that each took, and their bytes in all."""
        packed = ray.get(reference)
        if isinstance(packed, Lent):
            try:
                return *self._borrower.read(place, packed, pickle.loads), packed.size
            except OSError:
                packed = ray.get(actor.lent.remote(packed))  # raises if it has ended
                # It has not, so it is as far as if it were on another machine.
                self._near = ""
        return *pickle.loads(packed), len(packed)

    @staticmethod
    def _unavailable(envelope: Metadata) -> Message:
        message = Message(content=RecordDict(), metadata=envelope)  # type: ignore[call-overload]
        return Message(Error(NODE_UNAVAILABLE, "unreachable"), reply_to=message)


def _work(calls: deque[_Call]) -> float:
    """Return the seconds of work that wait in a queue."""
    return sum(call.seconds for call in calls)


def _to_send(content: RecordDict) -> Any:
    """Return a content as an actor takes it: its bytes, or where they lie in the object store."""
    packed = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return packed if len(packed) <= CARRIED_BYTES else ray.put(packed)
