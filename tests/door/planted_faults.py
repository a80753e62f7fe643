"""Faults that a hostile server must find in a hospital's door."""

from __future__ import annotations

import os
from typing import Any

import pytest

from accounting import states
from accounting.book import Book
from accounting.chain import Chain
from accounting.errors import BookError
from accounting.limits import SiteLimits
from accounting.lines import Line
from accounting.receipts import issue_receipt
from clients import client_app
from clients.site import answers, door, opening
from clients.site.proofs import make_confirmed
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

    def telling(error: Exception, **how: bool) -> str:
        found = known(error, **how)
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


def answered_anew(patch: pytest.MonkeyPatch) -> None:
    """A place that was answered is computed again, on its first payment, when it is asked again."""
    spend, append = Book.spend, Book.append

    def again(self: Book, place: Any, event: Any, **more: Any) -> Any:
        if (place.round, place.attempt) <= self.state(place.training).place:
            return issue_receipt(place, event, uses=more["uses"] or event.count, rounds=1)
        return spend(self, place, event, **more)

    def lenient(self: Book, *new: Line) -> None:
        sealed = [one for one in new if one.kind == "seal" and _is_sealed(self, one)]
        append(self, *(one for one in new if one not in sealed))

    patch.setattr(answers.Answers, "find", lambda self, place, kind: None)
    patch.setattr(door.Door, "_check_place", staticmethod(lambda kind, place, state: None))
    patch.setattr(Book, "spend", again)
    patch.setattr(Book, "append", lenient)


def _is_sealed(book: Book, line: Line) -> bool:
    state = book.state(line.training)
    return state.phase is not states.Phase.SPENT


def limit_not_asked(patch: pytest.MonkeyPatch) -> None:
    """A site's own limits are read, and nothing is held against them."""
    patch.setattr(SiteLimits, "check", lambda self, request, ledger: None)


def released_unconfirmed(patch: pytest.MonkeyPatch) -> None:
    """A model leaves once its own hospital has opened the sums."""

    def own(self: opening.Openings, *_: Any) -> Any:
        return make_confirmed(round=self.session.round)

    patch.setattr(opening.Openings, "confirmed", own)
    patch.setattr(opening.Openings, "confirmed_by", own)


def torn_line_cut(patch: pytest.MonkeyPatch) -> None:
    """A line that a crash tore is cut off the file, as if nothing had been about to leave."""
    mend = Chain._mend

    def cut(self: Chain, tail: bytes) -> None:
        if tail and self._reader.chained:
            os.ftruncate(self._file, self._reader.end)
            tail = b""
        mend(self, tail)

    patch.setattr(Chain, "_mend", cut)
