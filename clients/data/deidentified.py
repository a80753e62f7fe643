"""A table made harder to link: pseudonyms, shifted dates, and columns told less exactly.

    table = read_identified(Path("visits.csv"), Path("visits.toml"))
    made = deidentify(table, key, Wanted(k=5))
    made.before.k, made.after.k        # 1, 5
    made.rows                          # header and cells, to be written as CSV

Columns are generalised as by Datafly (Sweeney 1997): the one with the most different values first,
until all but a few patients have k - 1 others who are alike; each then goes back as far as it can,
and the few are left out. Bounds of steps follow from the declaration, which is public.

**Dates.** All dates of a patient move by one number of days, which the key decides. Where a
patient's first date comes to lie is drawn among all days that keep the patient's dates in their
declared ranges, whatever the true day: without the key it tells nothing of when, and only the days
between the patient's own dates are left.

What is released is no guarantee: somebody who knows more than the columns that were counted, or has
another table of the same patients, may still find one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from clients.data.anonymity import (
    Anonymity,
    classes_of,
    diversities_of,
    measure_anonymity,
    of_patients,
    sizes_of,
)
from clients.data.errors import DataError
from clients.data.generalised import Column, Days, Kinds, Numbers
from clients.data.identified import Identified
from clients.data.pseudonyms import PseudonymKey
from clients.data.records import Ints


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a released table must hold.

    Attributes:
        k: the fewest patients who are alike.
        l: the fewest classes among patients who are alike.
        known: columns that somebody may know; None for all but the one to predict.
        most_left_out: share of patients that may be left out rather than told less exactly.
    """

    k: int = 5
    l: int = 1  # noqa: E741 - the field's own name for it
    known: tuple[str, ...] | None = None
    most_left_out: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Deidentified:
    """A table that may be shown to more people than the one that it was made from.

    Attributes:
        rows: cells, the header first; in the order of pseudonyms.
        before: of the columns that were counted, as they were read.
        after: the same of what is written.
        alone: column -> patients whom nobody equals in it, before and after.
        changes: column -> what has become of it.
        left_out: patients.
        joined: column -> the category that its rarest have become.
    """

    rows: list[list[str]]
    before: Anonymity
    after: Anonymity
    alone: Mapping[str, tuple[int, int]]
    changes: Mapping[str, str]
    left_out: int
    joined: Mapping[str, str]


def deidentify(table: Identified, key: PseudonymKey, wanted: Wanted) -> Deidentified:
    """Make a table harder to link.

    Raises:
        DataError: `anonymity`: it cannot be brought to what is wanted; or a column that somebody
            may know is not in it.
    """
    counted = _counted(table, wanted)
    columns = _columns(table)
    levels = _levels({name: columns[name] for name in counted}, table, wanted)
    kept = _kept({name: columns[name] for name in counted}, levels, table, wanted)
    patients = np.unique(table.patients)
    stays = np.isin(table.patients, patients[kept])
    told = {name: column.at(levels.get(name, 0)) for name, column in columns.items()}
    exact = table.exact()
    released = {name: codes[stays] for name, codes in told.items()}
    return Deidentified(
        rows=_rows(table, columns, levels, key, stays),
        before=_measured(table, exact, counted),
        after=_measured(table, released, counted, stays),
        alone={
            name: (
                _measured(table, exact, (name,)).alone,
                _measured(table, released, (name,), stays).alone,
            )
            for name in counted
        },
        changes={name: column.words(levels.get(name, 0)) for name, column in columns.items()},
        left_out=int(len(patients) - np.sum(kept)),
        joined={
            name: column.joined
            for name, column in columns.items()
            if isinstance(column, Kinds) and levels.get(name, 0)
        },
    )


def _counted(table: Identified, wanted: Wanted) -> tuple[str, ...]:
    known = table.columns if wanted.known is None else wanted.known
    for name in known:
        if name not in table.columns:
            raise DataError(
                f"{name!r} is no column that the declaration has a range or categories for, "
                f"expected some of {', '.join(table.columns)}",
                code="anonymity",
            )
    people = len(np.unique(table.patients))
    if people < wanted.k:
        raise DataError(
            f"the table has {people} patients with an outcome, fewer than k = {wanted.k}",
            code="anonymity",
        )
    if wanted.l > (classes := len(table.declared.classes)):
        raise DataError(
            f"l = {wanted.l}, but {classes} classes are declared: no group can hold more",
            code="anonymity",
        )
    return tuple(dict.fromkeys(known))


def _columns(table: Identified) -> dict[str, Column]:
    """Return each column of the table at its levels, in order."""
    first = table.first_days()
    found: dict[str, Column] = {}
    for name in table.columns:
        if name in table.dates:
            found[name] = Days(table.dates[name] - first)
        elif name in table.numbers:
            found[name] = Numbers(table.numbers[name], table.declared.ranges[name])
        else:
            declared = table.declared.kinds.get(name) or sorted({*table.kinds[name]} - {""})
            found[name] = Kinds(table.kinds[name], declared)
    return found


def _kept(
    columns: Mapping[str, Column], levels: Mapping[str, int], table: Identified, wanted: Wanted
) -> np.ndarray:
    """Return for each patient, ascending, whether enough others are alike."""
    known = [columns[name].at(level) for name, level in levels.items()]
    alike = classes_of(_side_by_side(known, len(table.patients)), table.patients)
    secrets = of_patients(table.labels[:, None], table.patients)
    kept: np.ndarray = (sizes_of(alike) >= wanted.k) & (diversities_of(alike, secrets) >= wanted.l)
    return kept


def _levels(columns: Mapping[str, Column], table: Identified, wanted: Wanted) -> dict[str, int]:
    """Return how exactly each column may be told.

    Raises:
        DataError: `anonymity`: not even if all of them say nothing.
    """

    def enough(levels: Mapping[str, int]) -> bool:
        kept = _kept(columns, levels, table, wanted)
        return bool(np.mean(~kept) <= wanted.most_left_out and np.any(kept))

    levels = dict.fromkeys(columns, 0)
    while not enough(levels):
        distinct = {
            name: len(np.unique(column.at(levels[name])))
            for name, column in columns.items()
            if levels[name] < column.last
        }
        if not distinct:
            _refuse(columns, levels, table, wanted)
        levels[max(distinct, key=lambda name: distinct[name])] += 1
    for name in sorted(levels, key=lambda name: -levels[name]):
        while levels[name] and enough({**levels, name: levels[name] - 1}):
            levels[name] -= 1
    return levels


def _refuse(
    columns: Mapping[str, Column], levels: Mapping[str, int], table: Identified, wanted: Wanted
) -> None:
    kept = _kept(columns, levels, table, wanted)
    short, people = int(np.sum(~kept)), len(kept)
    raise DataError(
        f"k = {wanted.k}, l = {wanted.l} cannot be had: with all columns saying nothing {short} of "
        f"{people} patients would still have to be left out, at most {wanted.most_left_out:.0%} "
        "may. Patients differ in how many rows they have: use a row for each patient, a smaller k "
        "or l, or let more be left out",
        code="anonymity",
    )


def _side_by_side(columns: Sequence[Ints], rows: int) -> Ints:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.int64)


def _measured(
    table: Identified,
    codes: Mapping[str, Ints],
    names: Sequence[str],
    stays: np.ndarray | None = None,
) -> Anonymity:
    rows = slice(None) if stays is None else stays
    patients, secrets = table.patients[rows], table.labels[rows]
    known = _side_by_side([codes[name] for name in names], len(patients))
    return measure_anonymity(known, patients, secrets)


def _rows(
    table: Identified,
    columns: Mapping[str, Column],
    levels: Mapping[str, int],
    key: PseudonymKey,
    stays: np.ndarray,
) -> list[list[str]]:
    """Return header and cells of the patients who stay."""
    cells = {
        name: column.cells(levels.get(name, 0))
        for name, column in columns.items()
        if isinstance(column, Numbers | Kinds)
    }
    cells |= _dates(table, columns, levels, key)
    declared = table.declared
    header = [*([declared.patient] if declared.patient else []), *columns, declared.target]
    body = []
    for row in np.flatnonzero(stays).tolist():
        whose = table.names[table.patients[row]] if declared.patient else ""
        named = [key.pseudonym(whose)] if declared.patient else []
        outcome = declared.classes[table.labels[row]]
        body.append([*named, *(cells[name][row] for name in columns), outcome])
    if declared.patient:
        given = {row[0] for row in body}
        assert len(given) == len(set(table.patients[stays].tolist())), "two patients, one pseudonym"
    return [header, *sorted(body)]


def _dates(
    table: Identified,
    columns: Mapping[str, Column],
    levels: Mapping[str, int],
    key: PseudonymKey,
) -> dict[str, list[str]]:
    """Return the shifted dates."""
    dates = {name: one for name, one in columns.items() if isinstance(one, Days)}
    found = {name: [""] * len(table.patients) for name in dates}
    if not dates:
        return found
    level = {name: levels.get(name, 0) for name in dates}
    offsets = {name: np.maximum(column.at(level[name]), 0) for name, column in dates.items()}
    # A column that says nothing does not say either where a date is missing.
    there = {
        name: ~np.isnan(table.dates[name]) | (level[name] == column.last)
        for name, column in dates.items()
    }
    first = table.first_days()
    for rows in _rows_of_patients(table.patients):
        cells = [
            (name, row, int(offsets[name][row]))
            for name in dates
            for row in rows
            if there[name][row]
        ]
        if cells:
            start = _start(table, cells, first[rows[0]], key, table.names[table.patients[rows[0]]])
            for name, row, offset in cells:
                found[name][row] = (table.epoch + timedelta(days=start + offset)).isoformat()
    return found


def _rows_of_patients(patients: Ints) -> list[list[int]]:
    order = np.argsort(patients, kind="stable")
    _, starts = np.unique(patients[order], return_index=True)
    return [part.tolist() for part in np.split(order, starts[1:])]


def _start(
    table: Identified,
    cells: Sequence[tuple[str, int, int]],
    true: float,
    key: PseudonymKey,
    whose: str,
) -> int:
    """Return the day on which a patient's dates begin: any that keeps them in their ranges.

    Moving around the ends by a number that is equally likely to be any makes the first day equally
    likely to be any, whatever the true one.

    Args:
        table: has the ranges.
        cells: column, row and days after the first of each date.
        true: the first day; no number where the patient has no date.
        key: decides.
        whose: the patient's name.
    """
    lowest = max(table.bounds(name)[0] - offset for name, _, offset in cells)
    highest = min(table.bounds(name)[1] - offset for name, _, offset in cells)
    if highest < lowest:
        raise DataError(
            "the declared ranges of dates are so narrow that no other days fit between them: "
            "declare wider ones",
            code="anonymity",
        )
    places = highest - lowest + 1
    truly = 0 if np.isnan(true) else int(true) - lowest
    return lowest + (truly + key.position(whose, among=places)) % places
