"""Ledgers as a reconciliation reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting import lines
from accounting.errors import LedgerError
from simulations.audit.ledgers import read_book
from tests.accounting.books import EVENT, Place, keyed


def test_what_was_computed_again_is_not_reconciled(tmp_path: Path) -> None:
    """Two messages have left for one payment, as they may where nobody is promised anything."""
    path, place = tmp_path / "ledger.jsonl", Place("t", 1, 1)
    book = keyed(path, repeats=True)
    book.spend(place, EVENT, purpose="x")
    book.append(lines.seal(place, reply="R"))
    assert read_book(path, "t").answered[1, 1][0] == "R"
    book.spend(place, EVENT, purpose="x")
    with pytest.raises(LedgerError, match="computed again"):
        read_book(path, "t")
