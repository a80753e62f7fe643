"""A ledger: what was spent on patients, written before the data is touched.

The file is a chain of lines (`accounting.chain`) and outlives a training: a second one continues
the account. A retry is a new entry, always; nothing is refunded, merged or rewritten.

    ledger = Ledger(path, site="server", cohort="kermany-2018")
    ledger.spend(event, training="a1b2", round=1, attempt=1, purpose="gradient")

`Account` is what every such file answers about spending; a `Ledger` records events and nothing
else, and a hospital's `accounting.book` keeps its trainings in order besides. Only the standard
library is imported here, until an epsilon is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsFloat

from accounting import lines
from accounting.chain import Chain, Flush, read_chain
from accounting.errors import AccountingError, LedgerError
from accounting.events import Event, from_json, merge, to_json
from accounting.lines import Line
from accounting.links import Record
from accounting.spending import DeclaredPlan, Slack, Spending, check_slack, check_views, views_tuple

#: Kinds of lines that spend.
PAYING = ("spend", "charge", "entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of a ledger, and what it was spent on.

    Attributes:
        number: its line's number in the file.
        time: unix seconds.
        training: the training's id, which outlives Flower's run id.
        round: 1, 2, 3, ...; 0 where what was lost is charged.
        attempt: of that round, 1, 2, 3, ...
        purpose: a word for what was released, for example "gradient".
        event: what it costs.
        uses: noised messages that it covers; 0 where nobody counted.
        rounds: rounds that it covers, from its own on.
        views: noise multiplier that each observer has to face, where it is known; None: no noise.
        slack: what the training's grid charges over the whole training, where it is known.
    """

    number: int
    time: float
    training: str
    round: int
    attempt: int
    purpose: str
    event: Event
    uses: int = 0
    rounds: int = 1
    views: Mapping[str, float | None] = field(default_factory=dict)
    slack: Slack | None = None

    def to_json(self) -> dict[str, object]:
        """The entry as a JSON-ready dict."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "event": to_json(self.event), "views": dict(self.views)}


class Account:
    """What was spent according to a chained file of one site and one cohort.

    Safe for several processes. Trainings of format 1 are retired when such a file is first opened:
    all that they spent counts, and none of them goes on.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, site: str, cohort: str, flush: Flush
    ) -> None:
        """Open the file, or begin it where there is none.

        Args:
            path: the file; its folder must exist.
            site: the hospital's name.
            cohort: the name of the data it spends.
            flush: how far an entry must have come before the data is touched.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        self.path = Path(path)
        self.site = site
        self.cohort = cohort
        self._counts: dict[Spending, int] = {}
        self._unretired: dict[str, None] = {}
        self._chain = Chain(path, site=site, cohort=cohort, flush=flush, take=self._take)
        try:
            with self.hold():
                if self._unretired:
                    self._append([lines.retire(name, why="format 1") for name in self._unretired])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the account cannot be used after."""
        self._chain.close()

    def rest(self) -> None:
        """Give the file's descriptor back until the next use; what was read is kept."""
        self._chain.rest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({str(self.path)!r}, site={self.site!r}, cohort={self.cohort!r})"

    def hold(self) -> AbstractContextManager[None]:
        """Hold the file's lock, so that a check and the spending it allows are one step."""
        return self._chain.hold()

    def entries(self) -> tuple[Entry, ...]:
        """Every entry in the file, in order."""
        return read_ledger(self.path).entries

    def events(self) -> tuple[Event, ...]:
        """What was spent so far, equal mechanisms merged."""
        return merge([spending.event for spending in self.spendings()])

    def spendings(self) -> tuple[Spending, ...]:
        """What was spent so far, gathered by training, mechanism and what observers faced.

        Trainings are in the order in which they began to spend.
        """
        with self.hold():
            return tuple(one.counted(count) for one, count in self._counts.items() if count)

    def plans(self) -> Mapping[str, DeclaredPlan]:
        """All that a training may ever cost, of those that were bound before they spent; here none.

        Whether a training is among them is decided by its first spending, for ever.
        """
        return {}

    def places(self, training: str, rounds: int = 1) -> int:
        """Places that a training may have if each covers so many rounds; 0: nothing bounds them."""
        return 0

    def composed(self, whole: Event, delta: float) -> float:
        """Epsilon at `delta` of a declared training as a whole (`accounting.totals`)."""
        from accounting.totals import composed_epsilon

        return composed_epsilon(whole, delta)

    def epsilon(self, delta: float, accountant: str = "rdp") -> float:
        """Epsilon of everything spent so far, all trainings together.

        Guarantee: for neighbours that differ by one patient of this site, if the parameters of
        later trainings did not depend on what earlier ones released; else see `would_be`.
        """
        from accounting.accountants import epsilon

        return epsilon(self.events(), delta, accountant)

    def would_be(
        self, event: Event | None, delta: float, *, planned_epsilon: float | None = None
    ) -> float:
        """Epsilon after `event` as well, valid even if parameters were chosen adaptively.

        Guarantee: a site that spends only while this is at most a fixed bound stays (bound,
        delta)-private, whatever the later trainings' parameters depended on, for neighbours that
        differ by one patient of this site. A little more than `epsilon`: the price of adaptivity.

        Args:
            event: what is about to be spent; None: nothing.
            delta: fixed beforehand, once for the ledger.
            planned_epsilon: the bound, fixed beforehand; picks the filter's orders.

        Source: `accounting.renyi_filter`.
        """
        from accounting.renyi_filter import RenyiFilter

        events = (*self.events(), *(() if event is None else (event,)))
        return RenyiFilter.planned(delta, planned_epsilon).epsilon(events)

    def _append(self, new: Sequence[Line]) -> None:
        """Write lines, the lock being held, and count them once they are written."""
        self._chain.append([line.to_json() for line in new])
        for line in new:
            self._count(line)

    def _take(self, record: Record) -> None:
        """Count a line that was read."""
        self._count(Line.from_json(record))

    def _count(self, line: Line) -> None:
        if line.kind in PAYING:
            spending, count = spending_of(line)
            self._counts[spending] = self._counts.get(spending, 0) + count
        if line.kind == "entry":
            self._unretired[line.training] = None
        elif line.kind == "retire":
            self._unretired.pop(line.training, None)


class Ledger(Account):
    """An account to which anybody may add, for example the server's own."""

    def __init__(
        self, path: str | os.PathLike[str], *, site: str, cohort: str, durable: bool = True
    ) -> None:
        """Open the ledger, or begin it where there is no file.

        Args:
            path: the file; its folder must exist.
            site: whose it is.
            cohort: the name of the data that is spent.
            durable: flush to the disk itself, so that power loss is covered as well as a killed
                process. False is for simulations.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        flush = Flush.DISK if durable else Flush.WRITE
        super().__init__(path, site=site, cohort=cohort, flush=flush)

    def spend(
        self,
        event: Event,
        *,
        training: str,
        round: int,
        attempt: int,
        purpose: str,
        views: Mapping[str, float | None] | None = None,
    ) -> Entry:
        """Record an event. Touch the data only after this has returned.

        Guarantee: when it returns the entry is in the file (and, if durable, on the disk);
        when it raises, or never returns, the entry may or may not be there: the ledger never
        under-counts.

        Raises:
            LedgerError: the file was damaged meanwhile.
            OSError: the disk refuses, for example because it is full.
        """
        place = _Place(training=training, round=round, attempt=attempt)
        line = lines.spend(place, event, purpose=purpose, uses=max(event.count, 1), views=views)
        with self.hold():
            self._append([line])
            return _entry(self._chain.number, line)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    training: str
    round: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContents:
    """What a ledger file holds."""

    site: str
    cohort: str
    entries: tuple[Entry, ...]


def read_ledger(path: str | os.PathLike[str]) -> LedgerContents:
    """Read a ledger of any site and format without locking or changing it.

    A torn last line is left out.

    Raises:
        LedgerError: the file is damaged or no ledger.
    """
    contents = read_chain(path)
    found = []
    for record in contents.records:
        line = Line.from_json(record)
        if line.kind in PAYING:
            found.append(_entry(record["n"], line))
    return LedgerContents(site=contents.site, cohort=contents.cohort, entries=tuple(found))


def event_of(line: Line) -> Event:
    """The event of a line that pays."""
    event = line.fields.get("event")
    if not isinstance(event, Mapping):
        raise LedgerError(f"a ledger entry has no event: {sorted(line.fields)}")
    try:
        return _event(tuple(event.items()))
    except (AccountingError, TypeError) as error:
        raise LedgerError(f"a ledger entry cannot be read: {error}") from error


@lru_cache(maxsize=64, typed=True)  # a training spends the same event in every round
def _event(fields: tuple[tuple[str, object], ...]) -> Event:
    return from_json(dict(fields))


@lru_cache(maxsize=64)  # a training spends the same event in every round
def _mechanism(event: Event) -> Event:
    return replace(event, count=1)


def rounds_of(line: Line) -> int:
    """Rounds that a line's event covers."""
    return line.whole("rounds") if "rounds" in line.fields else 1


def spending_of(line: Line) -> tuple[Spending, int]:
    """What a line spends, of count 1, and the count."""
    event, charged = event_of(line), line.kind == "charge"
    one = Spending(
        training=line.training,
        purpose="" if charged else line.text("purpose"),
        event=_mechanism(event),
        views=views_tuple(_views(line)),
        charged=charged,
        slack=_slack(line),
    )
    return one, event.count


def _views(line: Line) -> Mapping[str, float | None]:
    views = line.fields.get("views", {})
    if not isinstance(views, Mapping):
        raise LedgerError(f"a ledger entry has views {views!r}, expected noise multipliers")
    try:
        check_views(views)
    except (AccountingError, TypeError) as error:
        raise LedgerError(f"a ledger entry cannot be read: {error}") from None
    return views


def _slack(line: Line) -> Slack | None:
    given = line.fields.get("slack")
    if given is None:
        return None
    try:
        slack = Slack(*map(float, given))  # type: ignore[call-overload]
        check_slack(slack)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"a ledger entry has slack {given!r}: {error}") from None
    return slack


def _entry(number: object, line: Line) -> Entry:
    seconds = line.fields.get("time")
    if not isinstance(number, int) or not isinstance(seconds, SupportsFloat):
        raise LedgerError(f"a ledger entry has number {number!r} and time {seconds!r}")
    charge = line.kind == "charge"
    return Entry(
        number=number,
        time=float(seconds),
        training=line.training,
        round=0 if charge else line.whole("round"),
        attempt=0 if charge else line.whole("attempt"),
        purpose=f"charge: {line.text('why')}" if charge else line.text("purpose"),
        event=event_of(line),
        uses=line.whole("uses") if "uses" in line.fields else 0,
        rounds=rounds_of(line),
        views=_views(line),
        slack=_slack(line),
    )
