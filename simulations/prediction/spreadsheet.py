"""Cells of a CSV file that no spreadsheet takes for a formula.

A spreadsheet runs what begins with one of a few signs, quotes or not, and a file's, a column's or a
class' name is somebody else's text. Such a cell gets an apostrophe in front, and so does one that
begins with an apostrophe: whoever takes one away from the front of a cell has what was there.
"""

from __future__ import annotations

from typing import Any

#: What begins a formula; the wide forms do in some languages.
_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
APOSTROPHE = "'"


def cell(value: Any) -> Any:
    """Return a text as a cell; anything else as it is: a number is no formula.

    >>> cell("=1+1"), cell("'tis"), cell("-7"), cell(-7), cell("a.png")
    ("'=1+1", "''tis", "'-7", -7, 'a.png')
    """
    begins = isinstance(value, str) and value.startswith((*_SIGNS, APOSTROPHE))
    return f"{APOSTROPHE}{value}" if begins else value
