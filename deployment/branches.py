"""Parts of a hospital's ledgers that its file does not have: what left on each of them.

A ledger that went back and then went on has two branches, and what left on both adds up. Two
signatures may be of one branch unless something in them says otherwise: another head of one entry,
or less spent at a later entry. Where a branch left the file is known only up to the last milestone
that both have; what was spent after it is taken to have left on both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.contract.witness_messages import MOST_OF_ONE

if TYPE_CHECKING:
    from accounting.book import Book
    from crypto.headers import Header


@dataclass(frozen=True)
class Branch:
    """Headers that one line of a ledger may have signed, in its order.

    Attributes:
        headers: by entry.
    """

    headers: tuple[Header, ...]

    def fits(self, header: Header) -> bool:
        """Whether a header of a later entry, or of the same one, may be of this branch."""
        return all(_in_order(one, header) for one in self.headers)

    def lost(self, book: Book) -> dict[str, int]:
        """Return what each training spent on this branch and not in the file before it, at most."""
        before = _spent_up_to(book, self._common(book))
        seen: dict[str, int] = {}
        for header in self.headers:
            seen[header.training] = max(seen.get(header.training, 0), header.spent)
        return {name: max(0, spent - before.get(name, 0)) for name, spent in seen.items()}

    def _common(self, book: Book) -> int:
        """Return the last entry that this branch and the file are known to share; -1 for none."""
        if any(header.ledger.hex() != book.id for header in self.headers):
            return -1
        shown = {n: head.hex() for header in self.headers for n, head in header.heads.items()}
        own = book.heads(shown)
        size = len(next(iter(shown.values())))
        return max((n for n, head in own.items() if head[:size] == shown[n]), default=-1)


def branches_of(headers: Iterable[Header]) -> list[Branch]:
    """Return as few branches as headers may be of."""
    found: list[Branch] = []
    for header in sorted(set(headers), key=lambda one: (one.entry, one.spent)):
        for number, branch in enumerate(found):
            if branch.fits(header):
                found[number] = Branch((*branch.headers, header))
                break
        else:
            found.append(Branch((header,)))
    return found


def may_lack_some(headers: Iterable[Header]) -> bool:
    """Whether a peer that kept these may have forgotten others of what was lost."""
    return len(set(headers)) >= MOST_OF_ONE


def _in_order(one: Header, later: Header) -> bool:
    """Whether two headers may be of one line of a ledger."""
    heads, others = one.heads, later.heads
    same = all(heads[n] == others[n] for n in heads.keys() & others.keys())
    grows = one.training != later.training or one.spent <= later.spent
    return one.ledger == later.ledger and same and grows


def _spent_up_to(book: Book, entry: int) -> dict[str, int]:
    spent: dict[str, int] = {}
    for one in book.entries():
        if one.number <= entry:
            spent[one.training] = spent.get(one.training, 0) + one.event.count
    return spent
