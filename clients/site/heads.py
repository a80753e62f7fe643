"""What lies beside a hospital's book and shows whether the book has gone back.

A book that was restored, copied or deleted no longer knows what has left. It is found out by what
does: the hospital's own signatures, which peers and the server keep; and files beside the book that
were written when it was longer. Each names a *mark*: a ledger, an entry, the head there.

    judge(mark, book)           # "" where the book knows the mark, else what is wrong
    with changing(site, book) as kept:   # peers.json: what it knows of peers, and of itself

Simulated hospitals keep none of this.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from accounting.book import Book
from accounting.errors import LedgerError
from clients.contract.header_memory import HeaderMemory, headers_in
from crypto.headers import MILESTONES, SignedHeader
from crypto.whole_file import locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crypto.headers import Header

PEERS, LOST = "peers.json", "lost-ledger.json"
_FORM = 1
_MARKED = re.compile(rb"asclepias beside ([0-9a-f]{16}) ([0-9]{1,16}) ([0-9a-f]{32})\n")
#: Files that begin with a mark.
_FILES = ("keys-*.bin", "replica-*.bin")
_MOST_MARK, _HEAD = 96, 16
#: Trainings of which own headers are remembered, and rounds of each.
_MOST_TRAININGS, _MOST_ROUNDS = 16, 4


class Folder(Protocol):
    """Where a hospital keeps its files."""

    @property
    def folder(self) -> Path:
        """The folder; only its owner can enter."""

    def write_secret(self, name: str, data: bytes) -> None:
        """Write a file for the owner alone, whole or not at all."""

    def read_secret(self, name: str) -> bytes | None:
        """Read it, or return ``None``."""


class Mark(NamedTuple):
    """A place in a ledger.

    Attributes:
        ledger: the ledger's id, hex of 8 bytes.
        entry: number of a line.
        head: the head after it, hex of 16 bytes.
    """

    ledger: str
    entry: int
    head: str

    @classmethod
    def of(cls, book: Book) -> Mark:
        """Return where a book ends."""
        entry, head = book.head()
        return cls(book.id, entry, head[:32])

    @classmethod
    def by(cls, header: Header) -> Mark:
        """Return what a header says of its sender's ledger."""
        return cls(header.ledger.hex(), header.entry, header.head.hex())


def judge(mark: Mark, book: Book) -> str:
    """Return why a mark of the hospital's own proves that its book has gone back; "" where not."""
    if book.recovered(mark.ledger) >= mark.entry:
        return ""
    if mark.ledger != book.id:
        return f"ledger {mark.ledger} has {mark.entry} entries, this one is ledger {book.id}"
    last, _ = book.head()
    if mark.entry > last:
        return f"entry {mark.entry} of ledger {mark.ledger} is known, this file ends at {last}"
    try:
        _, head = book.line(mark.entry)
    except LedgerError as error:
        return str(error)
    if head[:32] != mark.head:
        return f"entry {mark.entry} of ledger {mark.ledger} has another head than is known"
    return ""


def shown_of(book: Book, training: str, *, milestones: bool) -> dict[str, Any]:
    """Return what a header says of its sender's book, for its peers to remember.

    Args:
        book: the sender's.
        training: that the header is about.
        milestones: whether to show the heads at milestones too, as a real hospital does.
    """
    number, head = book.head()
    state = book.state(training)
    shown: dict[str, Any] = {
        "ledger": bytes.fromhex(book.id),
        "entry": number,
        "head": bytes.fromhex(head)[:_HEAD],
        "spent": state.spent,
        "adopted": state.adopted,
    }
    if milestones:
        entries = [number // spacing * spacing for spacing in MILESTONES]
        heads = {n: bytes.fromhex(found)[:_HEAD] for n, found in book.heads(entries).items()}
        shown["milestones"] = b"".join(heads.get(n, bytes(_HEAD)) for n in entries)
    return shown


def marked(data: bytes, book: Book) -> bytes:
    """Return a file's content behind the mark of the book as it is now."""
    mark = Mark.of(book)
    return f"asclepias beside {mark.ledger} {mark.entry} {mark.head}\n".encode() + data


def unmarked(data: bytes) -> bytes:
    """Return what `marked` was given."""
    found = _MARKED.match(data)
    return data[found.end() :] if found else data


def marks_beside(folder: Path, kept: Kept) -> Iterator[tuple[str, Mark]]:
    """Yield (file's name, mark) of the files beside a book, `peers.json` among them."""
    for pattern in _FILES:
        for path in sorted(folder.glob(pattern)):
            found = None
            # Another process may end another training meanwhile, whose files go.
            with suppress(FileNotFoundError), path.open("rb") as file:
                found = _MARKED.match(file.read(_MOST_MARK))
            if found:
                ledger, entry, head = (part.decode() for part in found.groups())
                yield path.name, Mark(ledger, int(entry), head)
    if kept.mark is not None:
        yield PEERS, kept.mark


class OwnEntry(NamedTuple):
    """The own header in a round's roster.

    Attributes:
        entry: of the own ledger, that the header names.
        known: peers who have shown that they saw the roster.
    """

    entry: int
    known: frozenset[str] = frozenset()


class Kept:
    """What `peers.json` holds.

    Attributes:
        mark: of the book when it was written; None in a new one.
        books: path and cohort of each ledger of this hospital, by id.
        headers: the peers' newest.
        witnessed: entry of the own ledger up to which enough peers know of it; -1 for none.
        own: training -> round -> the own header in its roster.
        proved: training -> start of the machine at which peers vouched for the book.
    """

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.books: dict[str, tuple[str, str]] = {}
        self.headers = HeaderMemory()
        self.witnessed = -1
        self.own: dict[str, dict[int, OwnEntry]] = {}
        self.proved: dict[str, str] = {}

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Read the file; where there is none, nothing is known.

        Raises:
            LedgerError: it is damaged; who forgets what it knew would vouch for anything.
            OSError: the disk does not give it.
        """
        kept, path = cls(), folder / PEERS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            ledger, entry, head = found["mark"]
            kept.books = {k: (str(p), str(c)) for k, (p, c) in found["books"].items()}
            kept.headers = HeaderMemory.from_json(found["headers"])
            kept.witnessed = int(found["witnessed"])
            kept.own = {
                training: {int(r): OwnEntry(int(e), frozenset(k)) for r, (e, k) in rounds.items()}
                for training, rounds in found["own"].items()
            }
            kept.proved = {str(t): str(start) for t, start in found["proved"].items()}
            kept.mark = Mark(str(ledger), int(entry), str(head))
        except FileNotFoundError:
            return kept
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"{path} cannot be read ({error}), and holds what is known of peers' ledgers: "
                "restore it, or remove it, and with it what no other peer may know"
            ) from error
        return kept

    def write(self, site: Folder, book: Book) -> None:
        """Write the file, with the book's mark as it is now."""
        self.mark = Mark.of(book)
        self.books[book.id] = (str(book.path), book.cohort)
        for entries in (self.own, self.proved):
            for training in list(entries)[:-_MOST_TRAININGS]:
                del entries[training]
        content = {
            "form": _FORM,
            "mark": list(self.mark),
            "books": self.books,
            "witnessed": self.witnessed,
            "own": {
                training: {r: (own.entry, sorted(own.known)) for r, own in rounds.items()}
                for training, rounds in self.own.items()
            },
            "proved": self.proved,
            "headers": self.headers.to_json(),
        }
        site.write_secret(PEERS, json.dumps(content).encode())

    def keep_own(self, training: str, round: int, entry: int) -> None:
        """Keep which entry the own header in a round's roster names."""
        rounds = self.own.pop(training, {})
        rounds[round] = OwnEntry(entry)
        self.own[training] = dict(sorted(rounds.items())[-_MOST_ROUNDS:])

    def keep_knowing(self, training: str, name: str, rounds: range) -> None:
        """Keep that a peer has seen the rosters of rounds."""
        mine = self.own.get(training, {})
        for number in [number for number in mine if number in rounds]:
            mine[number] = mine[number]._replace(known=mine[number].known | {name})

    def known_to(self, training: str, peers: int) -> int:
        """Return the last own entry of a training that as many peers have seen; -1 for none."""
        rounds = self.own.get(training, {}).values()
        return max((own.entry for own in rounds if len(own.known) >= peers), default=-1)

    def is_another(self, mark: Mark, book: Book) -> bool:
        """Whether a mark is about another ledger of this hospital, which is where it was."""
        path, cohort = self.books.get(mark.ledger, ("", ""))
        if not path or Path(path) == book.path or not Path(path).is_file():
            return False
        try:
            with Book(path, site=book.site, cohort=cohort) as other:
                return not judge(mark, other)
        except (LedgerError, OSError):
            return False


@contextmanager
def changing(site: Folder, book: Book) -> Iterator[Kept]:
    """Read `peers.json`, and write it as the block leaves it, while no other process does so.

    Two trainings have a process each, and what one learnt must outlive what the other read before.
    """
    with locked(site.folder / f".{PEERS}.lock"):
        kept = Kept.read(site.folder)
        yield kept
        kept.write(site, book)


def keep_lost(site: Folder, key: bytes, proofs: Iterable[SignedHeader]) -> None:
    """Keep the own headers that prove a lost book, for every later process and for recovery."""
    with locked(site.folder / f".{LOST}.lock"):
        known = HeaderMemory()
        for data in lost_proofs(site.folder):
            known.take(key, SignedHeader.from_bytes(data))
        for signed in proofs:
            known.take(key, signed)
        site.write_secret(LOST, json.dumps({"headers": known.to_json()}).encode())


def lost_proofs(folder: Path) -> tuple[bytes, ...]:
    """Return the own headers that were found to prove a lost book.

    Raises:
        LedgerError: the file of them cannot be read.
    """
    path = folder / LOST
    if not path.exists():
        return ()
    try:
        return headers_in(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LedgerError(f"{path} cannot be read, and may prove a lost ledger: {error}") from error
