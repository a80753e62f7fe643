"""How many patients of a table are alike in what somebody knows of them: k-anonymity, l-diversity.

    found = measure_anonymity(known, patients, secrets)
    found.alone     # patients whom nobody else equals: whoever knows this much has found them
    found.k         # the fewest who are alike (Sweeney 2002)
    found.l         # the fewest secrets among those who are alike (Machanavajjhala et al. 2007)

A patient is known by all rows together, how many there are too: rows of one patient carry one
pseudonym. Neither number is a guarantee against somebody who knows more than these columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.data.records import Ints


@dataclass(frozen=True, kw_only=True)
class Anonymity:
    """What somebody who knows some columns of a table could tell.

    Attributes:
        patients: in the table.
        alone: of them those whom nobody else equals.
        k: the fewest patients who are alike; 0 of an empty table.
        l: the fewest different secrets among patients who are alike; 0 of an empty table.
    """

    patients: int
    alone: int
    k: int
    l: int  # noqa: E741 - the field's own name for it


def measure_anonymity(known: Ints, patients: Ints, secrets: Ints) -> Anonymity:
    """Count who is alike.

    Args:
        known: [rows, columns] of what is known, equal numbers for equal values.
        patients: [rows] whose each row is.
        secrets: [rows] what is to be kept from somebody who knows the rest.
    """
    alike, values = classes_of(known, patients), of_patients(secrets[:, None], patients)
    if not len(alike):
        return Anonymity(patients=0, alone=0, k=0, l=0)
    sizes, diversities = sizes_of(alike), diversities_of(alike, values)
    return Anonymity(
        patients=len(alike),
        alone=int(np.sum(sizes == 1)),
        k=int(sizes.min()),
        l=int(diversities.min()),
    )


def classes_of(known: Ints, patients: Ints) -> Ints:
    """Return for each patient, ascending, the number of the class of those who are alike."""
    return of_patients(known, patients)


def sizes_of(alike: Ints) -> Ints:
    """Return for each patient how many are alike."""
    sizes: Ints = np.bincount(alike)[alike]
    return sizes


def diversities_of(alike: Ints, secrets: Ints) -> Ints:
    """Return for each patient how many different secrets those have who are alike."""
    pairs = np.unique(np.stack([alike, secrets], axis=1), axis=0)
    counts: Ints = np.bincount(pairs[:, 0])[alike]
    return counts


def of_patients(values: Ints, patients: Ints) -> Ints:
    """Return a number for each patient, ascending: equal where all rows together are equal.

    Args:
        values: [rows, columns].
        patients: [rows].
    """
    if not len(patients):
        return np.zeros(0, dtype=np.int64)
    rows = np.zeros(len(patients), dtype=np.int64)
    if values.shape[1]:
        rows = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    order = np.lexsort((rows, patients))
    _, starts = np.unique(patients[order], return_index=True)
    if len(starts) == len(patients):
        return _numbered([int(one) for one in rows[order]])
    return _numbered([part.tobytes() for part in np.split(rows[order], starts[1:])])


def _numbered(keys: list[int] | list[bytes]) -> Ints:
    numbers: dict[int | bytes, int] = {}
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
