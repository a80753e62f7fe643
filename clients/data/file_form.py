"""How a table is written, told from the whole of it: for a draft that a person looks at.

No run does this: there the declaration says it, or the file's first line, since one patient's cell
must not change how another's is read.

    seen = look(Path("visits.csv"))
    seen.form        # FileForm(separator=";", decimal=",", encoding="cp1252", ...)
    seen.doubts      # ("cells such as '1,234' may be 1234 or 1.234: ...",)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clients.data.declared_parts import FileForm
from clients.data.dialect import ABSENT, Dialect
from clients.data.files import read_bounded
from clients.data.rows import EXCEL, PARQUET, SEPARATORS, cells, text_lines

#: Lines that are looked at for separator, numbers and dates.
_LINES = 2000
#: Forms of numbers, likeliest first: decimal sign and sign between thousands.
_NUMBERS = tuple(
    (decimal, thousands)
    for thousands in ("", ",", ".", "'", " ")
    for decimal in (".", ",")
    if decimal != thousands
)
#: Forms of dates beside 2025-12-31, likeliest first.
DATES = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d.%m.%y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
)
_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257")
_NUMERIC = re.compile(r"[<>≤≥]?=?\s*([+-]?\d[\d.,' \u00a0\u202f\u2019]*)(?:[^\d\s].{0,14})?")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A file's form as it seems to be, and what may be otherwise."""

    form: FileForm
    doubts: tuple[str, ...] = ()


def look(path: Path) -> Seen:
    """Return how a table seems to be written.

    Raises:
        DataError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return Seen(form=FileForm())
    if suffix in EXCEL:
        return _look_at_sheets(path)
    data = read_bounded(path)
    encoding, doubts = _encoding(data)
    lines = [one for one in text_lines(data, encoding)[:_LINES] if one.strip()]
    separator = _separator(lines)
    rows = [cells(line, separator) for line in lines[1:]]
    found = [cell for row in rows for cell in row if cell]
    decimal, thousands, more = _numbers(found, separator)
    dates, ambiguous = date_form(rows)
    form = FileForm.model_validate(
        {
            "separator": separator,
            "decimal": decimal,
            "thousands": thousands,
            "encoding": encoding,
            "dates": dates,
        }
    )
    return Seen(form=form, doubts=(*doubts, *more, *ambiguous))


def _look_at_sheets(path: Path) -> Seen:
    from clients.data.rows import sheet_names

    names = sheet_names(path)
    doubts = (f"the file has the sheets {', '.join(names)}: the first is read",)
    if len(names) < 2:
        return Seen(form=FileForm())
    return Seen(form=FileForm(sheet=names[0]), doubts=doubts)


def _encoding(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return what to declare of the encoding, "" where the file says it, or is plain UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", ()
    if b"\0" in data[:4]:
        return ("utf-16-le" if data[1:2] == b"\0" else "utf-16-be"), ()
    try:
        data.decode("utf-8")
        return "utf-8", ()
    except UnicodeDecodeError:
        pass
    from charset_normalizer import from_bytes

    odd = b"\n".join(line for line in data.splitlines() if not line.isascii())
    best = from_bytes(odd, cp_isolation=list(_ENCODINGS), threshold=0.8).best()
    # Where several fit alike, Western European is the likeliest.
    fitting = best.could_be_from_charset if best else []
    name = best.encoding if best and "cp1252" not in fitting else "cp1252"
    sample = next((w for w in odd.decode(name, "replace").split() if not w.isascii()), "")
    return name, (f"letters beyond English are read as {name}, as in {sample!r}: look whether so",)


def _separator(lines: Sequence[str]) -> str:
    """Return the separator by which most lines have as many cells as the header."""

    def fit(separator: str) -> tuple[float, int]:
        counts = [len(cells(line, separator)) for line in lines]
        width = counts[0] if counts else 1
        alike = sum(count == width for count in counts) / max(len(counts), 1)
        return (alike if width > 1 else 0.0, width)

    return max(SEPARATORS, key=fit)


def _numbers(found: Iterable[str], separator: str) -> tuple[str, str, tuple[str, ...]]:
    """Return decimal sign, sign between thousands, and what may be otherwise."""
    texts = [match[1].strip() for cell in found if (match := _NUMERIC.fullmatch(cell))]
    if not texts:
        return "", "", ()
    read: Counter[tuple[str, str]] = Counter()
    for form in _NUMBERS:
        dialect = Dialect(FileForm(decimal=form[0], thousands=form[1]), separator)  # type: ignore[arg-type]
        read[form] = sum(dialect.number(text) is not None for text in texts)
    best = max(_NUMBERS, key=lambda form: read[form])
    signed = [text for text in texts if re.search(r"[.,]", text)]
    doubts: tuple[str, ...] = ()
    others = [form for form in _NUMBERS if read[form] == read[best] and form[0] != best[0]]
    if signed and others:
        doubts = (
            f"cells such as {signed[0]!r} are read with {best[0]!r} as the decimal sign, and could "
            "be thousands: look at [file] decimal",
        )
    if not signed:
        return ("." if separator == "," else ""), "", ()
    return *best, doubts


def date_form(rows: Sequence[Sequence[str]]) -> tuple[str, tuple[str, ...]]:
    """Return the form of dates that reads whole columns, "" for none or for 2025-12-31."""
    width = max(map(len, rows), default=0)
    votes: Counter[str] = Counter()
    doubts: list[str] = []
    for place in range(width):
        column = [row[place] for row in rows if len(row) > place]
        column = [cell for cell in column if cell.casefold() not in ABSENT]
        fitting = [form for form in DATES if _mostly(column, form)]
        votes.update(fitting)
        if len(fitting) > 1 and {"%d/%m/%Y", "%m/%d/%Y"} <= set(fitting):
            doubts.append(
                f"dates such as {column[0]!r} are read day first, and could be month first: look "
                "at [file] dates"
            )
    best = max(DATES, key=lambda form: votes[form])
    return (best, tuple(dict.fromkeys(doubts))) if votes[best] else ("", ())


def _mostly(column: Sequence[str], form: str) -> bool:
    """Whether nine of ten cells are dates of a form, but for a word that stands for nothing."""
    first = column[:20]
    if not column or sum(_is_date(cell, form) for cell in first) < len(first) / 2:
        return False
    others = Counter(cell for cell in column if not _is_date(cell, form))
    dates = len(column) - sum(others.values())
    words = sum(count for _, count in others.most_common(2) if count > 1)
    return dates >= max(0.9 * (len(column) - words), len(column) / 2)


def _is_date(cell: str, form: str) -> bool:
    if form == "%Y%m%d" and len(cell) != 8:
        return False
    try:
        return 1850 <= datetime.strptime(cell, form).year <= 2100
    except ValueError:
        return False
