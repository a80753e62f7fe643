"""Faults that a hostile server must find in a hospital's door."""

from __future__ import annotations

from typing import Any

import pytest

from accounting import states
from accounting.book import Book
from accounting.errors import BookError
from accounting.lines import Line
from accounting.receipts import issue_receipt
from clients import client_app
from clients.site import door, opening
from clients.site.session import Session
from crypto.errors import TagMismatchError
from crypto.roles import Place


def payment_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A retry goes out on the first attempt's payment: its own line is never written."""
    spend, append = Book.spend, Book.append

    def free(self: Book, place: Any, event: Any, **more: Any) -> Any:
        if place.attempt == 1:
            return spend(self, place, event, **more)
        return issue_receipt(place, event, uses=more["uses"] or event.count, rounds=1)

    def lenient(self: Book, *new: Line) -> None:
        append(self, *(one for one in new if one.kind != "seal" or one.whole("attempt") == 1))

    patch.setattr(Book, "spend", free)
    patch.setattr(Book, "append", lenient)


def named_after_it_opened(patch: pytest.MonkeyPatch) -> None:
    """A total is named in the book once it has opened well, so that failures cost nothing."""
    advance, append = Session.advance, Book.append
    waiting: list[tuple[Book, Line]] = []

    def late(self: Any, line: Line) -> None:
        waiting.append((self._book, line))

    def opened_first(self: Session, *given: Any, **more: Any) -> str:
        here = list(waiting)
        waiting.clear()
        chain = advance(self, *given, **more)
        for book, line in here:
            append(book, line)
        return chain

    patch.setattr(opening.Openings, "_commit", late)
    patch.setattr(Session, "advance", opened_first)


def attempt_zero_accepted(patch: pytest.MonkeyPatch) -> None:
    """Neither the door nor the book minds an attempt 0."""

    def lenient(request: Any) -> Place:
        return Place(training=request.training, round=request.round, attempt=request.attempt)

    patch.setattr(door, "place_of", lenient)
    patch.setattr(states, "_check_round", lambda state, bind, place: None)


def one_code_more(patch: pytest.MonkeyPatch) -> None:
    """A sum that does not open says which check it failed."""
    known = client_app.code_of

    def telling(error: Exception) -> str:
        found = known(error)
        return "tag-mismatch" if isinstance(error.__cause__, TagMismatchError) else found

    patch.setattr(client_app, "code_of", telling)


def stuck_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    """A hospital to which a false total was shown opens no true one any more."""
    append = Book.append

    def stubborn(self: Book, *new: Line) -> None:
        for line in new:
            if line.kind == "commit" and self.state(line.training).failures:
                raise BookError("opening-refused", "a total of this training has failed before")
        append(self, *new)

    patch.setattr(Book, "append", stubborn)
