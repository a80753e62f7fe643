"""How a hospital writes what its cells hold: numbers, dates, nothing at all.

A cell is read by itself, by what is declared and by the file's first line alone: how one patient's
value is written never changes how another's is read.

    dialect = Dialect(FileForm(decimal=",", thousands="."))
    dialect.number("1.234,5")     # 1234.5
    dialect.number("1.234,5 kPa") # None: no number

Where the decimal sign is not declared, a cell that could be a number of thousands as well ("1,234"
in a file whose separator is no comma) is none: a factor of 1000 is not to be guessed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from clients.data.declared_parts import FileForm

#: Cells that mean: nothing was measured, whatever is declared; a declared class or category wins.
ABSENT = ("", "?", "-", ".", "na", "n/a", "#n/a", "nan", "null", "none")


def says_nothing(cell: str) -> bool:
    """Whether a cell means that nothing is there; as an identifier it names nobody."""
    return cell.strip().casefold() in ABSENT


def identifier(cell: str) -> str:
    """Return an identifier as identifiers are compared: a whole number without its point.

    Programs write all numbers of a column with one ("17.0") as soon as a single one is missing:
    whoever is missing must make nobody else somebody new.
    """
    return _WHOLE.sub(r"\1", cell.strip())


_WHOLE = re.compile(r"\A([0-9]+)\.0*\Z")
_MINUS = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'"})
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FEW_DIGITS = re.compile(r"-?[0-9]{1,15}(\.[0-9]{0,15})?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_GROUPS = re.compile(r"[+-]?\d{1,3}( \d{3})+")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ].+)?")
_CENSORED = re.compile(r"(<=|>=|[<>≤≥])\s*(.+)")
_WITH_UNIT = re.compile(r"([+-]?[\d.,' ]*\d[.,]?(?:[eE][+-]?\d+)?)\s*([^\d\s.,].*)")


class Dialect:
    """How the cells of a file are read.

    Args:
        form: what is declared of the file.
        separator: between its cells, "" where cells have types of their own (Excel, Parquet).
    """

    def __init__(self, form: FileForm, separator: str = ",") -> None:
        self._form = form
        # A comma between cells cannot be one within numbers, unless those are quoted.
        undeclared = not (form.decimal or form.thousands)
        self._either = undeclared and separator not in ("", ",")
        self._decimal = form.decimal or ("," if form.thousands == "." else ".")
        self._points = self._decimal == "." and not (form.thousands or self._either)

    @property
    def ambiguous(self) -> bool:
        """Whether a point and a comma are both taken for a decimal sign."""
        return self._either

    def plain_number(self, cell: str) -> float | None:
        """Return what `number` returns of a cell without blanks around it, at once; else None.

        None says nothing: most cells of most files are such numbers, and this is for them alone.
        """
        return float(cell) if self._points and _FEW_DIGITS.fullmatch(cell) else None

    def number(self, cell: str) -> float | None:
        """Return a finite number, or None for what is none, or may be two."""
        text = cell.strip()
        if not text.isascii():
            text = text.translate(_MINUS)
        if thousands := self._form.thousands:
            text = _without_groups(text, thousands, self._decimal)
        if self._either:
            if _EITHER.fullmatch(text):
                return None
            text = text.replace(",", ".", 1)
        elif self._decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".", 1)
        if not _PLAIN.fullmatch(text):
            return None
        value = float(text)
        return value if math.isfinite(value) else None

    def measured(
        self, cell: str, *, censored: str = "", units: Mapping[str, float] | None = None
    ) -> float | None:
        """Return a measurement: a number, perhaps with a declared unit, perhaps beyond a bound.

        Args:
            cell: as it stands in the file.
            censored: how a bound is read: "bound", "half" (below it), "" for not at all.
            units: factor of each declared unit.
        """
        text, factor = cell.strip(), 1.0
        sign = ""
        if censored and (found := _CENSORED.fullmatch(text)):
            sign, text = found.group(1)[0], found.group(2)
        if units and (found := _WITH_UNIT.fullmatch(text.translate(_MINUS))):
            given = {_folded(name): one for name, one in units.items()}.get(_folded(found[2]))
            if given is None:
                return None
            text, factor = found[1], given
        value = self.number(text)
        if value is None:
            return None
        if censored == "half" and sign in ("<", "≤"):
            value /= 2
        return value * factor

    def moment(self, cell: str) -> datetime | None:
        """Return a date, perhaps with a time: 2025-12-31, or as the file's form of dates has it."""
        text = cell.strip()
        try:
            if _ISO.fullmatch(text):
                return datetime.fromisoformat(text)
            return datetime.strptime(text, self._form.dates) if self._form.dates else None
        except ValueError:
            return None

    def choice(self, cell: str, choices: Sequence[str]) -> int | None:
        """Return the number of the one choice that a cell means, or None.

        Spelled alike; else alike but for case and blanks; else the same number (1.0 for 1), where
        True and False are 1 and 0.
        """
        if cell in choices:
            return choices.index(cell)
        folded = [number for number, one in enumerate(choices) if _folded(one) == _folded(cell)]
        if len(folded) == 1:
            return folded[0]
        value = self._truth(cell)
        if value is None:
            return None
        equal = [number for number, one in enumerate(choices) if _DECLARED._truth(one) == value]
        return equal[0] if len(equal) == 1 else None

    def _truth(self, cell: str) -> float | None:
        return {"true": 1.0, "false": 0.0}.get(cell.strip().casefold(), self.number(cell))

    def is_code(self, cell: str, codes: Sequence[str]) -> bool:
        """Whether a cell is one of the codes for nothing: spelled alike, or the same number."""
        if cell in codes:
            return True
        value = self.number(cell)
        return value is not None and any(_DECLARED.number(code) == value for code in codes)

    def written(self, value: object) -> str:
        """Return a cell that has a type as the text that this dialect reads."""
        if value is None:
            return ""
        if isinstance(value, float):
            if math.isnan(value):
                return ""
            if value.is_integer() and abs(value) < 2**53:
                return str(int(value))
            return repr(value).replace(".", "," if self._decimal == "," else ".")
        return value.isoformat() if hasattr(value, "isoformat") else str(value)


#: How declarations themselves are written.
_DECLARED = Dialect(FileForm(decimal="."))


def _without_groups(text: str, thousands: str, decimal: str) -> str:
    """Take the signs between thousands out of a number where they stand as they should."""
    whole, point, rest = text.partition(decimal)
    if _GROUPS.fullmatch(whole.replace(thousands, " ")) and thousands in whole:
        whole = whole.replace(thousands, "")
    return whole + point + rest


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    """A text without case, doubled blanks, and the two ways of writing an accent."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()
