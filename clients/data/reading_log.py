"""What was odd about the records that were read: for the hospital's own log, and nobody else.

A value that cannot be read is a missing value, and a record that cannot be read is left out: what a
hospital answers must not depend on any one record. So that this does not happen in silence, every
reader is handed a `ReadingLog`:

    log = ReadingLog()
    log.note("no number: a missing value", "visits.csv: row 7, column age: 'old'")
    log.lines()     # ("no number: a missing value: 1 (visits.csv: row 7, column age: 'old')",)

Its lines hold values of patients.
"""

from __future__ import annotations

from collections.abc import Callable

#: Examples that are kept of each kind.
EXAMPLES = 3


class ReadingLog:
    """Counts what could not be read, by kind, with the first examples of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._write: Callable[[str], None] | None = None

    def note(self, kind: str, example: str = "", count: int = 1) -> None:
        """Count something odd.

        Args:
            kind: what it is and what follows from it; the same words for the same kind.
            example: file, row and value.
            count: how often.
        """
        self._counts[kind] = self._counts.get(kind, 0) + count
        kept = self._examples.setdefault(kind, [])
        if example and len(kept) < EXAMPLES:
            kept.append(example)
            if self._write is not None:
                self._write(f"{kind}: {example}")

    def __bool__(self) -> bool:
        return bool(self._counts)

    def counts(self) -> dict[str, int]:
        """Return how often each kind was met; no value of a patient is in it."""
        return dict(self._counts)

    def lines(self) -> tuple[str, ...]:
        """Return one line a kind, in the order in which kinds were met."""
        return tuple(
            f"{kind}: {count}" + (f" ({'; '.join(examples)})" if examples else "")
            for kind, count in self._counts.items()
            for examples in [self._examples[kind]]
        )

    def write_to(self, write: Callable[[str], None]) -> None:
        """Write all lines now, and later examples as they come: pictures are read when drawn."""
        for line in self.lines():
            write(line)
        self._write = write
