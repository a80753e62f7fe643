"""The books that a process holds open: few, since a simulated one answers for many sites."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from accounting.book import Book
from accounting.chain import Flush

#: Files that are open at once.
MOST = 128


class Books:
    """Open books by file; files of those that were used longest ago are closed."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Book] = OrderedDict()
        #: The one that was asked for last, which is mostly asked for again.
        self._last: tuple[Path, str, Book] | None = None

    def open(self, path: Path, *, site: str, cohort: str, durable: bool) -> Book:
        """Return a site's book for a cohort, as `Book` opens it.

        Raises:
            LedgerError: the file is damaged, no ledger, or another site's or cohort's.
        """
        if self._last is not None and self._last[:2] == (path, cohort):
            return self._last[2]
        book = self._open.get(path)
        if book is None or book.cohort != cohort:
            book = Book(
                path, site=site, cohort=cohort, flush=Flush.DISK if durable else Flush.WRITE
            )
            self.close(path)
            self._open[path] = book
        self._open.move_to_end(path)
        self._last = (path, cohort, book)
        if len(self._open) > MOST:
            # What it knows stays; only the file is opened anew when it is next asked for.
            for resting in list(self._open.values())[: len(self._open) - MOST]:
                resting.rest()
        return book

    def close(self, path: Path) -> None:
        """Close a book, if it is open."""
        self._last = None
        if (book := self._open.pop(path, None)) is not None:
            book.close()

    def close_all(self) -> None:
        """Close every book."""
        for path in list(self._open):
            self.close(path)
