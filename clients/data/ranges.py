"""Public ranges of measurements and dates: what a column can hold, whoever the patient is.

Range(low=0.0, high=110.0).scaled(55.0)    # 0.0: the middle of the range
Range.of_dates(date(2015, 1, 1), date(2025, 1, 1))    # days since the first of them
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

#: A range as the JSON schema of declarations has it.
RANGE_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "items": {
        "anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "format": "date"},
        ]
    },
}
#: Of a range: narrower ones are none to float32, and divided by them the lowest value alone is no
#: number. Who declares a range for others could tell by that who has it.
LEAST_WIDTH = 1e-30
_CONSTANT = (
    "a column that is always the same tells nothing; leave it out, or declare what it could be"
)


@dataclass(frozen=True, kw_only=True)
class Range:
    """A public range.

    Attributes:
        low: the lowest value; of dates 0.
        high: the highest; of dates days since `origin`.
        origin: of dates: the first day; None for numbers.
    """

    low: float
    high: float
    origin: date | None = None

    @classmethod
    def of_dates(cls, first: date, last: date) -> Range:
        """Return a range of days, counted from the first."""
        return cls(low=0.0, high=float((last - first).days), origin=first)

    def days(self, moment: datetime) -> float:
        """Return how many days after the first day a moment lies, with a fraction for the hour."""
        assert self.origin is not None
        start = datetime(self.origin.year, self.origin.month, self.origin.day)
        return (moment.replace(tzinfo=None) - start) / timedelta(days=1)

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range; of dates the whole last day does."""
        return self.low <= value < self.high + 1 if self.origin else self.low <= value <= self.high

    def scaled(self, value: float) -> float:
        """Return a value of the range in [-1, 1]; hours of the last day count as its beginning."""
        scaled = 2 * (value - self.low) / (self.high - self.low) - 1
        return -1.0 if scaled < -1.0 else min(scaled, 1.0)

    def __str__(self) -> str:
        if self.origin is None:
            return f"[{_exact(self.low)}, {_exact(self.high)}]"
        last = self.origin + timedelta(days=self.high)
        return f'["{self.origin.isoformat()}", "{last.isoformat()}"]'

    @property
    def words(self) -> str:
        """As a sentence has it."""
        if self.origin is None:
            return f"{self.low:g} to {self.high:g}"
        return f"{self.origin.isoformat()} to {self.origin + timedelta(days=self.high)}"


def _exact(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def read_range(value: object) -> Range:
    """Return a range as a declaration spells it: two numbers, or two dates.

    Raises:
        ValueError: it is none; the text says what was expected.
    """
    if isinstance(value, Range):
        return value
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("expected [lowest, highest]")
    dates = [_date(one) for one in value]
    if None not in dates:
        first, last = dates
        assert first is not None and last is not None
        if first == last:
            raise ValueError(_CONSTANT)
        if first > last:
            raise ValueError("expected the first day before the last")
        return Range.of_dates(first, last)
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in value):
        raise ValueError('expected two numbers, or two dates such as "2015-01-01"')
    low, high = (float(one) for one in value)
    if not math.isfinite(high - low):
        raise ValueError("expected finite numbers: what no patient can be below or above")
    if low == high:
        raise ValueError(_CONSTANT)
    if low > high:
        raise ValueError("expected lowest < highest")
    if high - low < LEAST_WIDTH:
        raise ValueError(f"expected numbers at least {LEAST_WIDTH:g} apart")
    return Range(low=low, high=high)


def _date(value: object) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
