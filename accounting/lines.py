"""The lines of a hospital's book, one maker for each kind.

    line = lines.commit("a1b2", round=3, attempt=1, roster=..., total=...)
    state = step(state, line)      # accounting.states

Digests are texts that the caller has computed; a line holds no data and no key.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from accounting.errors import LedgerError
from accounting.events import Event, PublicEvent, to_json
from accounting.spending import Slack, check_slack, check_views

#: Kinds of lines that are about the site, not about a training.
OF_THE_SITE = frozenset({"moved", "lost", "recovered", "composed"})
_LINK = ("n", "prev", "kind", "training")


class Place(Protocol):
    """Where in a training a message belongs: a round or a visit, and its attempt."""

    @property
    def training(self) -> str:
        """The training's id."""

    @property
    def round(self) -> int:
        """The round, or the number of a visit, from 1."""

    @property
    def attempt(self) -> int:
        """The attempt of that round, from 1."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a book, but for what chains it.

    Attributes:
        kind: what it says.
        training: what it is about; "" where it is about the site.
        fields: the rest, JSON-ready.
    """

    kind: str
    training: str
    fields: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The line as a JSON-ready dict."""
        if self.training:
            return {"kind": self.kind, "training": self.training, **self.fields}
        return {"kind": self.kind, **self.fields}

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Line:
        """The line that `to_json` wrote, with or without what chains it."""
        kind, training = record.get("kind"), record.get("training", "")
        if not isinstance(kind, str) or not isinstance(training, str):
            raise LedgerError(f"a line has kind {kind!r} and training {training!r}")
        fields = dict(record)
        for name in _LINK:
            fields.pop(name, None)
        return cls(kind, training, fields)

    def whole(self, name: str, default: int | None = None) -> int:
        """A field that is a whole number, 0 or more; the default where there is no such field."""
        value = self.fields.get(name, default)
        if type(value) is not int or value < 0:
            raise LedgerError(f"{name} of a {self.kind} line is {value!r}, expected 0, 1, 2, ...")
        return value

    def text(self, name: str) -> str:
        """A field that is a text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise LedgerError(f"{name} of a {self.kind} line is {value!r}, expected a text")
        return value

    def number(self, name: str) -> float:
        """A field that is a finite number, 0 or more."""
        value = self.fields.get(name)
        if not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value)):
            raise LedgerError(f"{name} of a {self.kind} line is {value!r}, expected a number >= 0")
        return float(value)

    def count(self) -> int:
        """How often the event of the line happens."""
        event = self.fields.get("event")
        count = event.get("count") if isinstance(event, Mapping) else None
        if type(count) is not int:
            raise LedgerError(f"the event of a {self.kind} line has count {count!r}")
        return count


def bind(
    training: str,
    *,
    terms: str,
    own: str,
    members: str,
    code: str,
    rounds: int,
    spare: int,
    failures: int,
    visits: int = 0,
    events: int = 0,
    repeats: bool = False,
) -> Line:
    """What a training's id means here, for ever.

    Args:
        training: the id.
        terms: digest of what all hospitals agreed on.
        own: digest of this hospital's own part of it.
        members: digest of all offers of the ceremony.
        code: digest of the program, for information: it may change.
        rounds: the last round there can be, T; of a visiting model, the last visit of all.
        spare: attempts beyond one per round (or per visit here) that may be spent.
        failures: failed openings after which the training is over here.
        visits: visits planned here; 0 where hospitals' vectors are summed.
        events: all that places may cost together, spare attempts included, which noise and grid
            were planned for; 0: as many as there are places for.
        repeats: whether a place's answer follows from a seed, and may be computed again: of a
            simulated hospital in a seeded run, which promises nobody anything, where no share of a
            key is bound to what was sealed first.
    """
    digests = {"terms": terms, "own": own, "members": members, "code": code}
    numbers = {"rounds": rounds, "spare": spare, "failures": failures, "visits": visits}
    numbers |= {"events": events} if events else {}
    numbers |= {"repeats": 1} if repeats else {}
    return Line("bind", training, {**digests, **numbers, "time": time.time()})


def keyed(training: str, *, keys: str) -> Line:
    """The training's keys are kept here; `keys` is the digest of their public bundle."""
    return Line("keyed", training, {"keys": keys})


def spend(
    place: Place,
    event: Event,
    *,
    purpose: str,
    uses: int,
    rounds: int = 1,
    views: Mapping[str, float | None] | None = None,
    slack: Slack | None = None,
) -> Line:
    """A place is paid for.

    Args:
        place: what is paid for, with the later rounds of its pass.
        event: what it costs.
        purpose: a word for it, for example the exchange.
        uses: noised messages that it covers.
        rounds: rounds that it covers, from the place's on.
        views: noise multiplier that each observer has to face; None: no noise.
        slack: what the training's grid charges, over the whole training.

    Raises:
        AccountingError: views or slack make no sense.
    """
    fields: dict[str, object] = {
        "round": place.round,
        "attempt": place.attempt,
        "time": time.time(),
        "purpose": purpose,
        "event": to_json(event),
        "uses": uses,
    }
    if rounds != 1:
        fields["rounds"] = rounds
    if views:
        check_views(views)
        fields["views"] = dict(views)
    if slack is not None:
        check_slack(slack)
        fields["slack"] = list(slack)
    return Line("spend", place.training, fields)


def again(place: Place) -> Line:
    """A place that was paid for is computed once more, to the bit: its answer was lost."""
    return Line("again", place.training, _at(place))


def show(place: Place, *, turn: int) -> Line:
    """A place's message of that turn is about to leave, and another turn follows."""
    return Line("show", place.training, {**_at(place), "turn": turn})


def seal(place: Place, *, reply: str) -> Line:
    """A place's last message is about to leave; `reply` is its digest."""
    return Line("seal", place.training, {**_at(place), "reply": reply})


def answer(place: Place, *, roster: str) -> Line:
    """Shares of the keys of one roster of a place are about to leave."""
    return Line("answer", place.training, {**_at(place), "roster": roster})


def commit(place: Place, *, roster: str, total: str, group: str = "") -> Line:
    """The one total of a round, or of a group's, that this hospital will open."""
    fields = {"group": group, "roster": roster, "total": total}
    return Line("commit", place.training, {**_at(place), **fields})


def close(training: str, *, round: int, chain: str) -> Line:
    """What was committed to opened well: `chain` stands for all sums up to the round."""
    return Line("close", training, {"round": round, "chain": chain})


def adopt(training: str, *, round: int, chain: str) -> Line:
    """A confirmed snapshot was taken over; every round up to its own is closed."""
    return Line("adopt", training, {"round": round, "chain": chain})


def end(training: str, *, round: int) -> Line:
    """The sums up to the round are confirmed as the last."""
    return Line("end", training, {"round": round})


def retire(training: str, *, why: str = "") -> Line:
    """The training is over here, and its id is never used again."""
    return Line("retire", training, {"why": why})


def charge(
    training: str,
    event: Event,
    *,
    why: str,
    views: Mapping[str, float | None] | None = None,
) -> Line:
    """What may have left without a line of its own, for example from a lost book.

    Args:
        training: the training's id.
        event: what it costs.
        why: for people.
        views: noise multiplier that each observer has to face, as in `spend`.

    Raises:
        AccountingError: views make no sense.
    """
    fields: dict[str, object] = {"event": to_json(event), "why": why, "time": time.time()}
    if views:
        check_views(views)
        fields["views"] = dict(views)
    return Line("charge", training, fields)


def public(training: str, *, purpose: str, about: str) -> Line:
    """Figures of records that are declared public are about to leave.

    Args:
        training: the training's id.
        purpose: a word for them.
        about: digest of what they are of, hex: of a model, or of models.
    """
    fields = {"purpose": purpose, "about": about, "event": to_json(PublicEvent())}
    return Line("public", training, {**fields, "time": time.time()})


def moved(*, inode: int) -> Line:
    """The file has this home now."""
    return Line("moved", "", {"inode": inode, "time": time.time()})


def composed(whole: Event, *, delta: float, epsilon: float, by: int) -> Line:
    """What all places of a declared training cost together, so that it is computed once.

    Args:
        whole: the event of all places.
        delta: at which.
        epsilon: found, finite.
        by: the version of the computation.
    """
    fields = {"event": to_json(whole), "delta": delta, "epsilon": epsilon, "by": by}
    return Line("composed", "", fields)


def lost() -> Line:
    """A line was here that nobody has any more; lines after it keep their numbers."""
    return Line("lost", "", {})


def recovered(*, ledger: str, entry: int, head: str) -> Line:
    """What was lost of a book up to an entry is charged for, and that entry is no news any more."""
    fields = {"ledger": ledger, "entry": entry, "head": head}
    return Line("recovered", "", {**fields, "time": time.time()})


def _at(place: Place) -> dict[str, object]:
    return {"round": place.round, "attempt": place.attempt}
