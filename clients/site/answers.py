"""What a hospital answered last in a training: asked again, it sends the same and computes nothing.

So a reply that was lost on its way costs no epsilon. A real hospital keeps it in its own folder; a
simulated one in memory, up to a bound that its process keeps to. One that has none left computes it
again where it follows from a seed; else it is asked at a new attempt, which is paid for again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.contract.kinds import Kind
from clients.contract.messages import Reply, content_from_bytes, content_to_bytes

if TYPE_CHECKING:
    from flwr.app import RecordDict

    from clients.site.ground import Site
    from crypto.roles import Place

#: Kinds whose answers are kept: those that are asked for at a place.
_ANSWERED = (Kind.TRAIN, Kind.VISIT, Kind.FORWARD, Kind.HEAD, Kind.BACKWARD, Kind.ANSWER)
#: Bytes of replies that a process of simulated hospitals keeps.
MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was sent."""

    records: RecordDict

    def content(self) -> RecordDict:
        """Return it as a message content."""
        return self.records


class AnswersInMemory:
    """Last answers of all simulated hospitals of a process; the oldest make room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Place, dict[Kind, Stored]]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def find(self, owner: str, place: Place, kind: Kind) -> Stored | None:
        """Return what a hospital answered at a place, if it is still known."""
        kept = self._kept.get(owner)
        return kept[1].get(kind) if kept is not None and kept[0] == place else None

    def keep(self, owner: str, place: Place, kind: Kind, stored: Stored) -> None:
        """Keep an answer in place of those of the hospital's earlier places."""
        if owner in self._kept and self._kept[owner][0] != place:
            self.drop(owner)
        _, answers = self._kept.setdefault(owner, (place, {}))
        self._kept.move_to_end(owner)
        answers[kind] = stored
        size = sum(record.count_bytes() for record in stored.records.array_records.values())
        self._sizes[owner] = self._sizes.get(owner, 0) + size
        self._bytes += size
        while self._bytes > MOST_BYTES:
            self.drop(next(iter(self._kept)))

    def drop(self, owner: str) -> None:
        """Forget what a hospital answered."""
        self._kept.pop(owner, None)
        self._bytes -= self._sizes.pop(owner, 0)


class Answers:
    """What one hospital answered last in one training.

    Args:
        site: its ground.
        training: id of the training.
        memory: where a simulated hospital's are kept.
    """

    def __init__(self, site: Site, training: str, memory: AnswersInMemory) -> None:
        self._site = site
        self._memory = memory
        self._owner = f"{site.folder}:{training}"
        self._training = training

    def find(self, place: Place, kind: Kind) -> Stored | None:
        """Return what was answered to a kind of message at a place."""
        if self._site.simulated:
            return self._memory.find(self._owner, place, kind)
        kept = self._site.read_secret(self._file(kind))
        head = _head(place)
        if kept is None or not kept.startswith(head):
            return None
        return Stored(content_from_bytes(kept[len(head) :]))

    def keep(self, place: Place, kind: Kind, reply: Reply) -> Stored:
        """Keep an answer before it leaves; returns it as it was kept."""
        stored = Stored(reply.content())
        if self._site.simulated:
            self._memory.keep(self._owner, place, kind, stored)
        else:
            data = _head(place) + content_to_bytes(stored.records)
            self._site.write_secret(self._file(kind), data)
        return stored

    def drop(self) -> None:
        """Forget what was answered: it belongs to places that nobody can ask for any more."""
        if self._site.simulated:
            self._memory.drop(self._owner)
            return
        for kind in _ANSWERED:
            self._site.forget_secret(self._file(kind))

    def _file(self, kind: Kind) -> str:
        return f"reply-{self._training}-{kind.replace('.', '-')}.bin"


def _head(place: Place) -> bytes:
    return f"{place.round} {place.attempt}\n".encode()
