"""What a model is asked about: records in the form that it was trained on, each with its place.

Every record that a file holds is here, the ones that cannot be read too: they keep their place and
say why, so that nothing is lost between a table of patients and a table of predictions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.data.reading_log import ReadingLog
from clients.data.records import Inputs, Ints, dense

#: Label of a record whose truth is not told.
UNTOLD = -1


@dataclass(frozen=True, kw_only=True)
class Asked(Unreleased):
    """Records to predict.

    Attributes:
        keys: column -> value for each record: which record it is.
        inputs: float32 [m, *shape], of the records that can be read.
        rows: int64 [m], which records these are, ascending.
        notes: what was odd about each record; "" for nothing.
        labels: int64 [n], class numbers, `UNTOLD` for none, or other targets with what stands for
            none of them; None where no record has any.
        names: of the patient of each record, "" where none is named; none at all likewise.
        patients: int64 [n], numbers of patients; each record is one's own where none are named.
        columns: of a table, names of those that the model reads, for each of its files.
        blind: of these, those with something in their cells of which nothing could be read: a line
            each, with the first example.
    """

    keys: Mapping[str, Sequence[str]]
    inputs: Inputs
    rows: Ints
    notes: Sequence[str]
    labels: NDArray[Any] | None = None
    patients: Ints
    names: Sequence[str] = ()
    columns: Sequence[str] = ()
    blind: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.notes)

    @property
    def unread(self) -> list[int]:
        """Records that could not be read."""
        return sorted(set(range(len(self))) - set(self.rows.tolist()))


def without_labels(asked: Asked, rows: Ints) -> Asked:
    """Return the records, some of them as if nobody had told their truth."""
    if asked.labels is None:
        return asked
    labels = asked.labels.copy()
    labels[rows] = UNTOLD
    return replace(asked, labels=labels)


def patient_numbers(names: Sequence[str]) -> Ints:
    """Number patients by their names [n]; a record without one is a patient of its own."""
    if not any(names):
        return np.arange(len(names), dtype=np.int64)
    return dense([name or f"record {row}" for row, name in enumerate(names)])[0]


class RowNotes(ReadingLog):
    """A log that also keeps what was noted of the record being read.

    A place in front of an example, which names the record once more, is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_record: list[str] = []

    def note(self, kind: str, example: str = "", count: int = 1) -> None:
        """Count something odd, and keep it for the record."""
        super().note(kind, example, count)
        said = re.sub(r"^.*?: row \d+(, | )?", "", example)
        self._of_record.append(f"{said}: {kind}" if said else kind)

    def of_record(self) -> str:
        """Return what was noted since the last call."""
        said, self._of_record = "; ".join(self._of_record), []
        return said
