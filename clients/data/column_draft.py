"""What a column of a table seems to be: for a draft that a person looks at.

A column of numbers gets a range, rounded outwards from what it holds; a column of a few words gets
its categories; dates get the years they lie in. What looks wrong is said, with a row to look at.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np

from clients.data.dialect import ABSENT, Dialect

#: Categories that are written down; a column of more words is free text.
MOST_KINDS = 20
#: Values that are often written where nothing was measured.
_CODES = (-1.0, -9.0, -99.0, -999.0, -9999.0, 9.0, 99.0, 999.0, 9999.0, 99999.0, 888.0, 8888.0)
#: Words that are often written there, beside those that always mean nothing.
_WORDS = (
    *("n.d.", "nd", "n.a.", "n.k.", "not done", "not known", "not measured", "unknown", "unk"),
    *("missing", "k.a.", "keine angabe", "nicht bekannt", "unbekannt", "fehlt", "inconnu"),
    *("non connu", "manquant", "ignoto", "sconosciuto", "non noto", "mancante", "desconocido"),
    "no consta",
)
#: How many times as often as any value a code is met that does not lie apart.
_OFTEN = 4
#: Share of the filled cells that must be of a type.
_MOST = 0.9
_CENSORED = re.compile(r"[<>≤≥]=?\s*[\d.,]+(\s*\D+)?")
_UNIT = re.compile(r"[+-]?[\d.,' ]*\d\s*([^\d\s.,<>=].*)")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column, and what would be declared of it.

    Attributes:
        name: as the header has it.
        use: "range", "date", "kinds" or "unused".
        why: why it is not used.
        absent: cells that hold nothing.
        filled: cells that hold something.
        different: how many different words they hold.
        range: lowest and highest, numbers or dates, rounded outwards.
        kinds: its categories, the most frequent spelling of each.
        codes: cells that seem to stand for nothing.
        coded: how many there are of these.
        words: those of them that stand for nothing in any column, such as 'unknown'.
        units: unit -> factor 1 for each unit that was met.
        censored: whether bounds such as '<5' were met.
        oddities: sentences about what looks wrong.
        values: what a picture is drawn from: numbers or days.
        counts: what a picture is drawn from: cells of each category.
    """

    name: str
    use: str
    why: str = ""
    absent: int = 0
    filled: int = 0
    different: int = 0
    range: tuple[Any, Any] | None = None
    kinds: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    coded: int = 0
    words: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    censored: bool = False
    oddities: tuple[str, ...] = ()
    values: tuple[float, ...] = field(default=(), repr=False)
    counts: Mapping[str, int] = field(default_factory=dict, repr=False)


def look_at(name: str, cells: Sequence[str], dialect: Dialect) -> Column:
    """Return what a column seems to be.

    Args:
        name: of the column.
        cells: one a row, in order.
        dialect: how the file is written.
    """
    filled = [(row, cell) for row, cell in enumerate(cells, 2) if cell.casefold() not in ABSENT]
    base = Column(name=name, use="unused", absent=len(cells) - len(filled), filled=len(filled))
    if not filled:
        return replace(base, why="it is empty")
    counts = _spellings([cell for _, cell in filled])
    base = replace(base, different=len(counts))
    if len(counts) == 1:
        return replace(base, why=f"it is always {next(iter(counts))!r}", counts=counts)
    for attempt in (_as_dates, _as_numbers):
        if (found := attempt(base, filled, dialect, counts)) is not None:
            return found
    words = sorted({cell for _, cell in filled if _folded(cell) in _WORDS})
    return _as_kinds(base, counts, words)


def _folded(cell: str) -> str:
    """Return a word as words are compared."""
    return " ".join(cell.split()).casefold()


def _spellings(cells: Sequence[str]) -> dict[str, int]:
    """Return how often each word is met, under its most frequent spelling."""
    exact = Counter(cells)
    folded: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cell, count in exact.most_common():
        spelling = folded.setdefault(_folded(cell), cell)
        counts[spelling] += count
    return dict(counts)


Filled = Sequence[tuple[int, str]]


def _as_dates(
    base: Column, filled: Filled, dialect: Dialect, counts: Mapping[str, int]
) -> Column | None:
    moments = [(row, cell, dialect.moment(cell)) for row, cell in filled]
    read = [moment for _, _, moment in moments if moment is not None]
    codes = _words_for_nothing([cell for _, cell, moment in moments if moment is None])
    rest = [cell for _, cell, _ in moments if cell not in codes]
    if len(read) < max(_MOST * len(rest), len(filled) / 2):
        return None
    odd = [
        f"row {row}: {cell!r} is no date"
        for row, cell, moment in moments
        if moment is None and cell not in codes
    ]
    # A year beyond the ones that are met, on either side, so that no single date decides.
    first, last = min(read).year - 1, max(read).year + 1
    return replace(
        base,
        use="date",
        range=(date(first, 1, 1), date(last, 12, 31)),
        codes=codes,
        coded=_count(codes, counts),
        oddities=(*_say_codes(codes), *few(odd)),
        values=tuple(float(moment.toordinal()) for moment in read),
    )


def _as_numbers(
    base: Column, filled: Filled, dialect: Dialect, counts: Mapping[str, int]
) -> Column | None:
    units = _units(filled, dialect)
    factors = dict.fromkeys(units, 1.0)
    read, odd, censored = [], [], False
    for row, cell in filled:
        value = dialect.measured(cell, censored="bound", units=factors)
        if value is None:
            odd.append((row, cell))
            continue
        censored = censored or _CENSORED.fullmatch(cell) is not None
        read.append((row, value))
    words = _words_for_nothing([cell for _, cell in odd])
    rest = len(filled) - sum(cell in words for _, cell in odd)
    if len(read) < max(_MOST * rest - 1, len(filled) / 2):
        return None
    values = np.asarray([value for _, value in read])
    if len(counts) <= 2 and set(np.unique(values)) <= {0.0, 1.0}:
        return None  # yes and no are categories
    codes = (*_codes(values), *words)
    said = [f"row {row}: {cell!r} is no number" for row, cell in odd if cell not in codes]
    kept = values[~np.isin(values, [float(one) for one in codes if _plain(one)])]
    inside = _without_outliers(kept)
    said += [
        f"row {row}: {value:g} lies far from all others: it will be a missing value"
        for row, value in read
        if value in kept and value not in inside
    ]
    if len(units) > 1:
        said.append(f"has the units {', '.join(units)}: declare a factor for each")
    return replace(
        base,
        use="range",
        range=outwards(float(inside.min()), float(inside.max())),
        codes=codes,
        coded=len(values) - len(kept) + _count(words, counts),
        units=units,
        censored=censored,
        oddities=(*_say_codes(codes), *few(said)),
        values=tuple(inside.tolist()),
    )


def _words_for_nothing(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the words, at most two, that stand again and again where something else should."""
    return tuple(cell for cell, count in Counter(cells).most_common(2) if count > 1)


def _say_codes(codes: Sequence[str]) -> list[str]:
    named = ", ".join(map(repr, codes))
    look = "looks like a code" if len(codes) == 1 else "look like codes"
    return [f"{named} {look} for: not measured"] if codes else []


def _count(codes: Sequence[str], counts: Mapping[str, int]) -> int:
    """Return how many cells hold codes; a word's count is that of its most frequent spelling."""
    return sum(counts.get(code, 0) for code in codes)


def _plain(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _units(filled: Filled, dialect: Dialect) -> tuple[str, ...]:
    """Return the units behind numbers, where no number stands by itself alone."""
    met = Counter(
        found[1].strip()
        for _, cell in filled
        if dialect.number(cell) is None and (found := _UNIT.fullmatch(cell.lstrip("<>≤≥= ")))
    )
    return tuple(unit for unit, _ in met.most_common(5) if len(unit) <= 15)


def _codes(values: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Return the usual codes for nothing that lie far from all other values, or are met often."""
    found = []
    others = values[~np.isin(values, _CODES)]
    usual = max(Counter(others.tolist()).values(), default=1)
    for code in _CODES:
        if code not in values or not others.size:
            continue
        low, high = float(others.min()), float(others.max())
        gap = max(high - low, 1.0) * 0.25
        apart = code > high + gap or code < min(low - gap, 0.0) or (code < 0 <= low)
        # Or it is met several times as often as any value is.
        if apart or np.count_nonzero(values == code) >= max(_OFTEN * usual, _OFTEN):
            found.append(str(int(code)))
    return tuple(found)


def _without_outliers(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values that lie within twenty times the middle half's width around it."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 20 * max(high - low, abs(high) / 10, 1e-12)
    kept: np.ndarray[Any, Any] = values[(values >= low - reach) & (values <= high + reach)]
    return kept


def outwards(low: float, high: float) -> tuple[float, float]:
    """Return a range around what was met, wider by a tenth at least and rounded outwards.

    What is not negative stays so.
    """
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    if span / step < 2:
        step /= 2
    below = math.floor((low - span / 10) / step) * step
    above = math.ceil((high + span / 10) / step) * step
    digits = max(0, 1 - math.floor(math.log10(step)))
    return (round(max(below, 0.0) if low >= 0 else below, digits), round(above, digits))


def _as_kinds(base: Column, counts: Mapping[str, int], words: Sequence[str]) -> Column:
    numeric, whole = {str(int(code)) for code in _CODES}, sum(counts.values())
    codes = sorted(numeric & set(counts))
    if not len(codes) == len([kind for kind in counts if _plain(kind)]) < len(counts) - 1:
        codes = []  # among other numbers one may be meant
    said, left = _say_codes([*codes, *words]), set(counts) - {*codes, *words}
    if len(left) > 1:
        counts = {kind: count for kind, count in counts.items() if kind in left}
    else:
        codes, words = [], []  # or there would be one kind, or none
    ordered = dict(sorted(counts.items()))
    if len(counts) > min(MOST_KINDS, max(2, base.filled / 2)):
        return replace(base, why=f"it holds {len(counts)} different words")
    rare = [f"{kind!r} is met once" for kind, count in ordered.items() if count == 1]
    return replace(
        base,
        use="kinds",
        kinds=tuple(ordered),
        codes=(*codes, *words),
        coded=whole - sum(counts.values()),
        words=tuple(words),
        oddities=(*said, *few(rare)),
        counts=ordered,
    )


def few(sentences: Sequence[str], what: str = "such cells", most: int = 3) -> list[str]:
    """Return the first sentences, and how many more there are."""
    more = [f"and {len(sentences) - most} more {what}"] if len(sentences) > most else []
    return [*sentences[:most], *more]
