"""Who a hospital's patients are, from one reading of its records to the next.

Patients are numbered anew whenever records are read, so a number says nothing once somebody has
left, or a file is sorted otherwise. A patient who is named is known by the name; where nobody is,
by the records themselves, and equal ones are told apart by their number among their equals::

    known = identities(records, dataset.patient_names)     # patient's number -> 32 bytes

Nothing of it leaves the hospital.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from clients.data.pictures import PictureStore
from clients.data.records import Ints, LazyInputs, Records

_ROWS = 256  # rows at a time


def identities(records: Records, names: Sequence[str] = ()) -> dict[int, bytes]:
    """Return an identity for each patient, by number.

    Args:
        records: as they were read, before anything is made of their inputs.
        names: the hospital's own name behind each number; empty where patients are not named.
    """
    if names:
        return {
            number: _digest(b"name", names[number].encode("utf-8", "surrogatepass"))
            for number in records.patient_ids.tolist()
        }
    marks, equals, found = list(_marks(records)), Counter[bytes](), {}
    for number, rows in zip(records.patient_ids.tolist(), _rows(records.patients), strict=True):
        own = _digest(b"records", *sorted(marks[row] for row in rows.tolist()))
        found[number] = _digest(b"among equals", own, str(equals[own]).encode())
        equals[own] += 1
    return found


def _rows(patients: Ints) -> list[Ints]:
    """Return each patient's rows, patients ascending."""
    order = np.argsort(patients, kind="stable")
    _, counts = np.unique(patients, return_counts=True)
    return np.split(order, np.cumsum(counts)[:-1]) if len(patients) else []


def _marks(records: Records) -> Iterator[bytes]:
    """Yield what each row is known by: its files, or what stands in it."""
    inputs = records.inputs
    if isinstance(inputs, LazyInputs) and isinstance(inputs.store, PictureStore):
        yield from (_digest(b"files", *inputs.store.files(row)) for row in inputs.rows.tolist())
        return
    for start in range(0, len(records), _ROWS):
        rows = np.ascontiguousarray(inputs[start : start + _ROWS], dtype="<f4")
        for row, label in zip(rows, records.labels[start : start + _ROWS].tolist(), strict=True):
            yield _digest(b"row", row.tobytes(), str(label).encode())


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
