"""What an operator does about a ledger: see whether it is whole, go on after it has gone back.

A ledger that was restored, copied or begun anew does not know all that has left. Its hospital's own
signatures do: peers and the server keep them. Recovery compares, shows what is missing, and charges
it: for every training what was witnessed on each branch that the ledger lacks (`branches`), and for
each as many places more as may have left without a witness. Nothing is taken back, and no training
that may have a gap goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from accounting import lines
from accounting.book import Book
from accounting.chain import read_chain
from accounting.charges import dearest_entries, open_trainings
from accounting.errors import AccountingError, LedgerError
from accounting.events import Event, from_json
from accounting.ledger import read_ledger
from accounting.lines import Line
from accounting.states import NEW, TrainingState, step
from clients.contract.header_memory import headers_in, signed_by
from clients.site.heads import LOST, Kept, Mark, judge, lost_proofs, marks_beside
from clients.site.home import home_of, same_home
from clients.site.leftovers import forget_trainings
from clients.site.site_file import SiteFile
from crypto.headers import Header
from crypto.identity import Identity
from deployment.branches import Branch, branches_of, may_lack_some
from deployment.errors import DeploymentError

#: What is charged for on the operator's word stands under this name, which no training has.
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A whole ledger.

    Attributes:
        site: whose it is.
        cohort: the data that it is about.
        id: its own.
        entry: number of its last line.
        head: the head there.
        trainings: where each stands.
    """

    site: str
    cohort: str
    id: str
    entry: int
    head: str
    trainings: Mapping[str, TrainingState]


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What recovering a ledger will do to it.

    Attributes:
        own: where it ends.
        witnessed: the newest place in it, or in one before it, that its hospital has signed.
        spent: training -> (spent here, witnessed beside it), in noised messages about a patient.
        charges: (training, event) that will be charged.
        retired: trainings that end here.
        lines: all of it, as the ledger will have it.
    """

    own: Mark
    witnessed: Mark | None
    spent: Mapping[str, tuple[int, int]]
    charges: tuple[tuple[str, Event], ...]
    retired: tuple[str, ...]
    lines: tuple[Line, ...] = field(repr=False)


def verify(path: Path) -> Verified:
    """Read a ledger without changing it, and follow every training in it line by line.

    Raises:
        DeploymentError: it is missing, damaged, or holds what no hospital may do; says what to do.
    """
    try:
        found = read_chain(path)
        trainings: dict[str, TrainingState] = {}
        for record in found.records:
            line = Line.from_json(record)
            if line.kind != "entry" and line.kind not in lines.OF_THE_SITE:
                try:
                    trainings[line.training] = step(trainings.get(line.training, NEW), line)
                except LedgerError as error:
                    raise LedgerError(f"{path} line {record['n']}: {error}") from error
    except (LedgerError, OSError) as error:
        raise DeploymentError(
            f"{error}. Nothing was changed. Move {path.name} away, put the newest copy in its "
            "place, or none, and say 'asclepias ledger recover': what the copy lacks is charged."
        ) from None
    return Verified(
        site=found.site,
        cohort=found.cohort,
        id=found.id,
        entry=found.number,
        head=found.head,
        trainings=trainings,
    )


def findings(site: SiteFile) -> list[str]:
    """Return what shows that a hospital's ledger has gone back, or may have; none where it stands.

    Raises:
        DeploymentError: the ledger is damaged.
    """
    verify(site.ledger)
    with closing(_open(site)) as book:
        kept = Kept.read(site.private)
        found = [
            f"{name}: {why}"
            for name, mark in marks_beside(site.private, kept)
            if (why := judge(mark, book)) and not kept.is_another(mark, book)
        ]
        for header in _own(site, lost_proofs(site.private)):
            if why := judge(Mark.by(header), book):
                found.append(f"this hospital's own signature: {why}")
        home = book.home()
        if site.home != "any" and home is not None and not same_home(home, home_of(site.ledger)):
            found.append("the file is another one than was written last: restored, or a copy")
    return found


def plan(
    site: SiteFile,
    evidence: Iterable[bytes],
    *,
    also: Iterable[Event] = (),
    cohort: str = "",
) -> Recovery:
    """Return what recovering a hospital's ledger would do; nothing is written.

    Args:
        site: the hospital's own file.
        evidence: signed headers; those of others are passed over.
        also: what left besides, on the operator's word.
        cohort: the data that a ledger is about which has to be begun anew.

    Raises:
        DeploymentError: the ledger is damaged, or a training's events are unknown.
    """
    if site.ledger.exists():
        verify(site.ledger)
    with closing(_open(site, cohort)) as book:
        kept = Kept.read(site.private)
        headers = [*_own(site, evidence), *_own(site, lost_proofs(site.private))]

        def is_news(mark: Mark) -> bool:
            return bool(judge(mark, book)) and not kept.is_another(mark, book)

        lost = [header for header in headers if is_news(Mark.by(header))]
        marks = [mark for _, mark in marks_beside(site.private, kept)]
        news = [mark for mark in [*map(Mark.by, lost), *marks] if is_news(mark)]
        branches = branches_of(lost)
        spent = _spent(book, branches)
        places = site.unwitnessed * max(1, len(branches))
        also = list(also)
        _require_all(lost, also)
        charges, retired = _charges(book, spent, places, also)
        why = f"recovered: {'; '.join(judge(mark, book) for mark in news[:1]) or 'by hand'}"
        views = {name: entry.views for name, entry in dearest_entries(book).items()}
        written = [lines.charge(n, event, why=why, views=views.get(n)) for n, event in charges]
        written += [lines.retire(name, why=why) for name in retired]
        own = Mark.of(book)
        return Recovery(
            own=own,
            witnessed=max(news, key=lambda mark: mark.entry, default=None),
            spent=spent,
            charges=tuple(charges),
            retired=tuple(retired),
            lines=(*_padding(own, news), *written, lines.moved(inode=home_of(site.ledger))),
        )


def carry_out(site: SiteFile, recovery: Recovery, cohort: str = "") -> int:
    """Write what was planned, and forget what proved the loss; returns the last line's number.

    Raises:
        DeploymentError: the ledger has changed since.
    """
    with closing(_open(site, cohort)) as book, book.hold():
        if Mark.of(book) != recovery.own:
            raise DeploymentError(f"{site.ledger} has changed since; end the SuperNode first.")
        book.append(*recovery.lines)
        number, _ = book.head()
    forget_trainings(site.private, recovery.retired)
    (site.private / LOST).unlink(missing_ok=True)
    return number


def end(site: SiteFile, training: str) -> None:
    """End a training at a hospital for ever, and delete its keys.

    Raises:
        DeploymentError: the ledger is damaged, or knows no such training.
    """
    known = verify(site.ledger).trainings
    if training not in known:
        raise DeploymentError(
            f"{site.ledger} knows no training {training!r}, but {', '.join(known) or 'none'}."
        )
    with closing(_open(site, "")) as book:
        book.append(lines.retire(training, why="ended by hand"))
    forget_trainings(site.private, {training})


def read_evidence(path: Path) -> tuple[bytes, ...]:
    """Return the signed headers in a file: the server's or a peer's, or the hospital's own.

    Raises:
        DeploymentError: it is no such file.
    """
    try:
        return headers_in(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"{path} holds no evidence ({error}). Ask for witness.json beside the runs of the "
            "SuperLink, or for a peer's private/peers.json."
        ) from None


def read_event(text: str) -> Event:
    """Return the event that an operator names, such as gaussian:sampling_rate=0.1,....

    Raises:
        DeploymentError: it is none.
    """
    kind, _, fields = text.partition(":")
    try:
        given: dict[str, object] = {"kind": kind}
        for one in filter(None, fields.split(",")):
            name, _, value = one.partition("=")
            given[name.strip().replace("-", "_")] = json.loads(value)
        event = from_json(given)
    except (AccountingError, ValueError) as error:
        raise DeploymentError(
            f"{text!r} is no event ({error}). An example: "
            "gaussian:sampling-rate=0.1,noise-multiplier=2.0,count=40"
        ) from None
    if not event.count:
        raise DeploymentError(f"{text!r} is an event of nothing; count is 1 or more.")
    return event


def _open(site: SiteFile, cohort: str = "") -> Book:
    """Open a hospital's book, or begin one for a cohort where there is none."""
    if site.ledger.exists():
        cohort = read_ledger(site.ledger).cohort
    elif not cohort:
        raise DeploymentError(
            f"{site.ledger} is missing. Put the newest copy there, or begin anew with --cohort."
        )
    return Book(site.ledger, site=site.hospital, cohort=cohort)


def _own(site: SiteFile, headers: Iterable[bytes]) -> list[Header]:
    """Return those headers that this hospital itself has signed."""
    key = Identity.load_or_create(site.private / "identity.key").public
    return [signed.header for signed in signed_by(key, headers) if any(signed.header.ledger)]


def _require_all(lost: list[Header], also: list[Event]) -> None:
    """Refuse evidence that may have been cut, where nothing is charged by hand.

    Raises:
        DeploymentError: it holds as many signatures as a peer keeps.
    """
    if may_lack_some(lost) and not also:
        raise DeploymentError(
            f"the evidence holds {len(lost)} signatures over what this ledger lacks, as many as a "
            "peer keeps; more may be forgotten. Charge what else left with --also."
        )


def _spent(book: Book, branches: Iterable[Branch]) -> dict[str, tuple[int, int]]:
    """Return what each training has spent here, and beside it on branches that are lost."""
    lost = dict.fromkeys(open_trainings(book), 0)
    for branch in branches:
        for training, count in branch.lost(book).items():
            lost[training] = lost.get(training, 0) + count
    return {training: (book.spent(training), count) for training, count in lost.items()}


def _charges(
    book: Book, spent: Mapping[str, tuple[int, int]], places: int, also: list[Event]
) -> tuple[list[tuple[str, Event]], list[str]]:
    """Return what is charged, and which trainings end.

    Raises:
        DeploymentError: nobody knows a training's events, and none were given by hand.
    """
    dearest = dearest_entries(book)
    unknown: list[str] = []
    charges: list[tuple[str, Event]] = []
    for training, (_, lost) in sorted(spent.items()):
        if training not in dearest:
            unknown.append(training)
            continue
        event = dearest[training].event
        charges.append((training, replace(event, count=lost + places * event.count)))
    if unknown and not also:
        raise DeploymentError(
            f"nothing here says what a place of {', '.join(unknown)} costs, and some may have "
            "left. The run's summary.json has the numbers; charge what it may have taken with "
            "--also gaussian:sampling-rate=...,noise-multiplier=...,count=..."
        )
    charges += [(UNKNOWN, event) for event in also]
    return charges, sorted(spent)


def _padding(own: Mark, news: list[Mark]) -> Iterable[Line]:
    """Return lines in the place of those that were lost, and up to where each ledger is known."""
    furthest: dict[str, Mark] = {}
    for mark in news:
        before = furthest.get(mark.ledger)
        if before is None or before.entry < mark.entry:
            furthest[mark.ledger] = mark
    last = furthest[own.ledger].entry if own.ledger in furthest else own.entry
    yield from (lines.lost() for _ in range(own.entry, last))
    for mark in furthest.values():
        yield lines.recovered(ledger=mark.ledger, entry=mark.entry, head=mark.head)
