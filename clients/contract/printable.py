r"""Text of others made fit to be shown: what would steer a terminal or turn a line is written out.

Names of hospitals, runs and files, codes and messages come from other machines. A terminal obeys
escape sequences in them, and marks of direction let one name look like another.

    printable("\x1b[2J")     # a backslash, then x1b[2J
"""

from __future__ import annotations

import logging
import unicodedata

#: Categories of Unicode that show nothing of their own: controls, formats (marks of direction and
#: spaces of no width among them), surrogates, private use, and ends of lines and paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return a text in one line, every character in it one that can be seen.

    Others are written as in Python's source, so that what was there can still be read.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """Return a text of several lines, each made :func:`printable`; tabs become spaces."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))


class PrintableFormatter(logging.Formatter):
    """Writes a log so that no text in a message steers the terminal that shows it.

    Nor does any pass for a record of its own, which it might to whoever reads the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; further lines of a message or a traceback stay lines, indented."""
        return printable_lines(super().format(record)).replace("\n", "\n  ")


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
