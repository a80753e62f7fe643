"""What is charged where a book may have forgotten something that left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from accounting import lines
from accounting.events import Event, ExactEvent
from accounting.states import Phase

if TYPE_CHECKING:
    from accounting.book import Book
    from accounting.ledger import Entry
    from accounting.lines import Line

_CLOSED = frozenset({Phase.NEW, Phase.BOUND, Phase.ENDED, Phase.RETIRED})


def open_trainings(book: Book) -> list[str]:
    """Return the trainings that have keys and have not ended."""
    return [name for name in book.trainings() if book.state(name).phase not in _CLOSED]


def charges_of_places(book: Book, places: int, *, why: str) -> list[Line]:
    """Return lines that charge places of each open training, at its largest event of a place.

    A training that has spent nothing yet has no event to charge; it ends here.
    """
    dearest = dearest_entries(book)
    made = []
    for training in open_trainings(book):
        if training not in dearest:
            made.append(lines.retire(training, why=f"{why}, with nothing spent"))
            continue
        entry = dearest[training]
        event = replace(entry.event, count=entry.event.count * places)
        made.append(lines.charge(training, event, why=why, views=entry.views))
    return made


def dearest_entries(book: Book) -> dict[str, Entry]:
    """Return what each training has paid for its dearest place, and what observers face of it."""
    found: dict[str, Entry] = {}
    for entry in book.entries():
        if entry.round and entry.event.count:
            before = found.get(entry.training)
            if before is None or weight(entry.event) > weight(before.event):
                found[entry.training] = entry
    return found


def weight(event: Event) -> float:
    """Return a number that orders events by what they cost: count * (q / sigma)^2."""
    if isinstance(event, ExactEvent):
        return float("inf")
    sigma = getattr(event, "noise_multiplier", float("inf"))
    return event.count * (getattr(event, "sampling_rate", 1.0) / sigma) ** 2
