"""How messages reach actors, and come back; real actors and a real Ray are in the engines' tests.

Here Ray's object store is a name for the object itself, and an actor is a stand-in that writes down
its calls and answers at once, saying that it took as long as the test would have it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence

import pytest
import ray
from flwr.app import Array, ArrayRecord, Message, Metadata, RecordDict
from flwr.supercore.run import Run

from simulations.engines import ray_transport
from simulations.engines.lent_memory import LEAST_BYTES, Borrower, Lender, Lent
from simulations.engines.ray_transport import CALL_BYTES, CARRIED_BYTES, RayTransport


class StandInRay:
    """The four things that a transport asks of Ray, in this process."""

    exceptions = ray.exceptions

    def __init__(self) -> None:
        self.stored: list[bytes] = []

    def put(self, content: bytes) -> bytes:
        self.stored.append(content)
        return content

    def wait(self, references: list[Reference], **_: object) -> tuple[list[Reference], object]:
        return references[:1], []

    def get(self, reference: Reference) -> bytes | Lent:
        return reference.answer()


class Reference:
    """A call that is under way; its answer is made when it is fetched."""

    def __init__(self, answer: Callable[[], bytes | Lent]) -> None:
        self.answer = answer


class Method:
    """What is called of an actor."""

    def __init__(self, remote: Callable[..., Reference]) -> None:
        self.remote = remote


class StandInActor:
    """Writes down the nodes of every call; dies in as many of its first calls as it is told."""

    def __init__(
        self, seconds: dict[int, float] | None = None, reply_bytes: int = 0, deaths: int = 0
    ) -> None:
        self.seconds = seconds or {}
        self.calls: list[list[int]] = []
        self.lender = Lender()
        self.busy: set[int] = set()
        self.returned: list[int] = []
        self.death: Exception = ray.exceptions.RayActorError()
        self._reply_bytes = reply_bytes
        self._deaths = deaths
        self.answer_packed = Method(self._asked)
        self.lent = Method(lambda lent: Reference(lambda: self._returned(lent)))

    def _asked(
        self,
        content: bytes,
        envelopes: Sequence[Metadata],
        fair_until: float,
        near: str,
        place: int,
    ) -> Reference:
        self.calls.append([envelope.dst_node_id for envelope in envelopes])
        assert place not in self.busy, "replies that nobody has read yet would be written over"
        self.busy.add(place)
        dies = len(self.calls) <= self._deaths

        def answer() -> bytes | Lent:
            self.busy.remove(place)
            packed = self._answer(content, envelopes, dies)
            large = near and len(packed) >= LEAST_BYTES
            return self.lender.lend(place, packed) if large else packed

        return Reference(answer)

    def _returned(self, lent: Lent) -> bytes:
        self.returned.append(lent.size)
        return self.lender.lent(lent)

    def _answer(self, content: bytes, envelopes: Sequence[Metadata], dies: bool) -> bytes:
        if dies:
            raise self.death
        sent = pickle.loads(content)
        asked = [Message(content=sent, metadata=envelope) for envelope in envelopes]
        replies = [Message(content_of(self._reply_bytes), reply_to=message) for message in asked]
        return pickle.dumps(
            (replies, [self.seconds.get(one.dst_node_id, 0.001) for one in envelopes])
        )


@pytest.fixture(autouse=True)
def stand_in_ray(monkeypatch: pytest.MonkeyPatch) -> StandInRay:
    stand_in = StandInRay()
    monkeypatch.setattr(ray_transport, "ray", stand_in)
    return stand_in


class StandInCrew:
    """Actors, and those that take their places."""

    def __init__(self, actors: list[StandInActor], spare: Iterable[StandInActor] = ()) -> None:
        self.actors = list(actors)
        self._spare = list(spare)

    def watch(self) -> None:
        pass

    def replace(self, place: int, actor: StandInActor) -> None:
        if self.actors[place] is actor and self._spare:
            self.actors[place] = self._spare.pop(0)


def transport_of(
    actors: list[StandInActor], nodes: Iterable[int], spare: Iterable[StandInActor] = ()
) -> RayTransport:
    places = {node: place for place, node in enumerate(nodes)}
    return RayTransport(StandInCrew(actors, spare), places, Run.create_empty(7))


def content_of(size: int) -> RecordDict:
    return RecordDict({"x": ArrayRecord({"x": Array("uint8", (size,), "raw", bytes(size))})})


def play_round(
    transport: RayTransport, nodes: Iterable[int], content: RecordDict | None = None
) -> list[Message]:
    content = content or RecordDict()
    return list(transport.send_and_receive([Message(content, node, "train") for node in nodes]))


def calls_once_known(actor: StandInActor, nodes: range, *, rounds: int = 1) -> list[list[int]]:
    """The calls of a round after rounds in which the transport learnt how long each works."""
    transport = transport_of([actor], nodes)
    for _ in range(rounds):
        play_round(transport, nodes)
    actor.calls.clear()
    play_round(transport, nodes)
    return actor.calls


def test_each_message_is_delivered_once_and_each_gets_its_own_reply() -> None:
    nodes = range(10, 60)
    actors = [StandInActor(), StandInActor()]
    replies = play_round(transport_of(actors, nodes), nodes)
    assert sorted(node for actor in actors for call in actor.calls for node in call) == [*nodes]
    assert sorted(reply.metadata.src_node_id for reply in replies) == [*nodes]
    assert not any(reply.has_error() for reply in replies)


def test_little_work_travels_in_one_call() -> None:
    nodes = range(10, 60)
    actor = StandInActor(dict.fromkeys(nodes, 0.001))
    assert [len(call) for call in calls_once_known(actor, nodes)] == [50]


def test_much_work_is_halved_until_it_is_little() -> None:
    nodes = range(10, 42)
    actor = StandInActor(dict.fromkeys(nodes, 2**-5))
    assert [len(call) for call in calls_once_known(actor, nodes)] == [16, 8, 4, 4]


def test_the_longest_work_comes_first_and_alone() -> None:
    nodes = range(10, 20)
    actor = StandInActor(dict.fromkeys(nodes, 0.01) | {15: 2.0})
    assert calls_once_known(actor, nodes)[0] == [15]


def test_large_replies_keep_calls_small() -> None:
    nodes = range(10, 40)
    actor = StandInActor(dict.fromkeys(nodes, 0.001), reply_bytes=CALL_BYTES // 4 - 2000)
    assert max(len(call) for call in calls_once_known(actor, nodes)) == 4


@pytest.mark.parametrize(("size", "stored"), [(CARRIED_BYTES - 2000, 0), (CARRIED_BYTES, 1)])
def test_a_large_content_is_stored_once_and_a_small_one_is_carried(
    stand_in_ray: StandInRay, size: int, stored: int
) -> None:
    nodes = range(10, 60)
    content = content_of(size)
    transport = transport_of([StandInActor(), StandInActor()], nodes)
    assert len(play_round(transport, nodes, content)) == len(nodes)
    assert len(stand_in_ray.stored) == stored


def test_a_hospital_that_has_become_slow_is_asked_first() -> None:
    nodes = range(10, 20)
    actor = StandInActor(dict.fromkeys(nodes, 0.01) | {11: 0.02})
    transport = transport_of([actor], nodes)
    play_round(transport, nodes)
    actor.seconds[15] = 2.0
    play_round(transport, nodes)
    assert actor.calls[-1][0] != 15, "nobody could know yet"
    actor.calls.clear()
    play_round(transport, nodes)
    assert actor.calls[0] == [15]


def test_an_actor_with_nothing_to_do_takes_work_from_the_one_with_most() -> None:
    nodes = range(10, 42)
    busy, idle = StandInActor(dict.fromkeys(nodes, 0.5)), StandInActor()
    crew = StandInCrew([busy, idle])
    transport = RayTransport(crew, dict.fromkeys(nodes, 0), Run.create_empty(7))
    assert len(play_round(transport, nodes)) == len(nodes)
    assert idle.calls and busy.calls


@pytest.mark.parametrize(
    "death", [ray.exceptions.RayActorError(), ray.exceptions.OutOfMemoryError("ended by Ray")]
)
def test_what_an_actor_that_died_was_asked_is_asked_of_the_one_in_its_place(
    death: Exception,
) -> None:
    nodes = range(10, 12)
    dead, new = StandInActor(deaths=9), StandInActor()
    dead.death = death
    replies = play_round(transport_of([dead], nodes, [new]), nodes)
    assert dead.calls == new.calls == [[*nodes]]
    assert [reply.has_error() for reply in replies] == [False, False]


def test_calls_that_died_with_one_actor_do_not_replace_the_next() -> None:
    nodes = range(10, 42)
    dead, new = StandInActor(deaths=9), StandInActor()
    transport = transport_of([dead], nodes, [new, StandInActor(deaths=9)])
    for node in nodes:
        transport._expected[node, "train"] = 0.5  # so many calls that two wait at the actor
    assert not any(reply.has_error() for reply in play_round(transport, nodes))
    assert len(dead.calls) == 2 and len(new.calls) > 2


def test_hospitals_whose_actors_die_again_and_again_are_unreachable() -> None:
    nodes = range(10, 12)
    first, second = StandInActor(deaths=9), StandInActor(deaths=9)
    replies = play_round(transport_of([first], nodes, [second]), nodes)
    assert len(first.calls) == len(second.calls) == 1
    assert [reply.error.reason for reply in replies] == ["unreachable", "unreachable"]


def test_large_replies_are_lent_and_nothing_is_written_over_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = list[Lent]()
    reading = Borrower.read
    monkeypatch.setattr(
        Borrower,
        "read",
        lambda self, at, lent, *rest: (read.append(lent), reading(self, at, lent, *rest))[1],
    )
    nodes = range(10, 42)
    actor = StandInActor(dict.fromkeys(nodes, 0.5), reply_bytes=LEAST_BYTES)
    transport = transport_of([actor], nodes)
    for _ in range(3):
        replies = play_round(transport, nodes)
        assert {len(one.content.array_records["x"]["x"].data) for one in replies} == {LEAST_BYTES}
    assert len(actor.calls) == len(read) > 6
    assert len({one.name for one in read}) == 2, "two calls wait at an actor, each has a place"


def test_replies_that_cannot_be_read_where_they_lie_are_carried_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Borrower, "read", refused)
    nodes = range(10, 12)
    actor = StandInActor(reply_bytes=LEAST_BYTES)
    transport = transport_of([actor], nodes)
    for _ in range(2):
        assert not any(reply.has_error() for reply in play_round(transport, nodes))
    assert len(actor.returned) == 1 and len(actor.calls) == 2


def test_replies_that_went_with_their_process_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError

    def ended(_: Lent) -> bytes:
        raise ray.exceptions.RayActorError

    monkeypatch.setattr(Borrower, "read", gone)
    nodes = range(10, 12)
    dead, new = (StandInActor(reply_bytes=LEAST_BYTES) for _ in range(2))
    dead._returned = ended
    replies = play_round(transport_of([dead], nodes, [new]), nodes)
    assert dead.calls == new.calls == [[*nodes]]
    assert [reply.has_error() for reply in replies] == [False, False]
