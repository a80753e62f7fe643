"""What is shown of others' text cannot steer a terminal, and can still be read."""

from __future__ import annotations

import logging
import unicodedata

import pytest

from clients.contract.printable import PrintableFormatter, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lyon", "lyon"),
        ("Hôpital Édouard-Herriot, 北京", "Hôpital Édouard-Herriot, 北京"),
        ("\x1b]0;evil\x07", r"\x1b]0;evil\x07"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u200bb\u2028c", r"a\u200bb\u2028c"),
        ("a\r\nb\x9b2J", r"a\r\nb\x9b2J"),
        ("\ud800", r"\ud800"),
        ("[bold]", "[bold]"),
    ],
)
def test_what_shows_nothing_is_written_out_and_all_else_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_character_at_all_gets_through_that_a_terminal_obeys() -> None:
    everything = "".join(map(chr, range(0x3000)))
    kinds = {unicodedata.category(one) for one in printable(everything)}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable_lines(everything).count("\n") == 1


def test_lines_stay_lines() -> None:
    assert printable_lines("a\n\tb\x1b[2J\r") == "a\n    b\\x1b[2J\\r"


def test_no_text_in_a_log_passes_for_a_record_of_its_own() -> None:
    forged = "x\n2026-11-26 21:00:00,000 answered ada"
    record = logging.LogRecord("a", logging.INFO, "f", 1, "ben: %s", (forged,), None)
    first, second = PrintableFormatter("%(asctime)s %(message)s").format(record).split("\n")
    assert first.endswith("ben: x")
    assert second == "  2026-11-26 21:00:00,000 answered ada"


def test_a_log_steers_no_terminal() -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "the dealer: %s", ("\x1b[2J\rok",), None)
    assert PrintableFormatter("%(message)s").format(record) == r"the dealer: \x1b[2J\rok"
