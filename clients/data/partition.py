"""Splitting a cohort's patients over hospitals, evenly or as unevenly as real hospitals are.

Every splitter works on a table with one row per patient; a hospital may end up with no patient at
all and still takes part. Shards and classes are dealt by flwr-datasets, whose import takes longer
than most runs need for their data.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.data.errors import DataError
from clients.data.records import Ints

if TYPE_CHECKING:
    from clients.data.records import Records
    from clients.tasks.question import Question


@dataclass(frozen=True, kw_only=True)
class PatientTable:
    """One row per patient.

    Attributes:
        patients: int64 [m], ascending.
        labels: int64 [m], the label that most of the patient's rows carry (the lowest on a tie).
        hospitals: int64 [m], or None.
    """

    patients: Ints
    labels: Ints
    hospitals: Ints | None = None


#: Patients that an error names.
_NAMED = 3


def patient_table(
    records: Records, names: tuple[str, ...] = (), question: Question | None = None
) -> PatientTable:
    """Reduce rows to patients.

    Args:
        records: of one data set.
        question: what is learnt; its strata take the place of classes. None: labels are classes.
        names: the hospital's own identifier behind each patient's number; for errors.

    Raises:
        DataError: `patient-overlap` when a patient's rows name two hospitals.
    """
    patients, numbers = np.unique(records.patients, return_inverse=True)
    labels = np.asarray(records.labels)
    labels = labels if question is None else question.strata(labels)
    classes = int(labels.max(initial=0)) + 1
    counts = np.zeros((len(patients), classes), dtype=np.int64)
    np.add.at(counts, (numbers, labels), 1)
    hospitals = None
    if records.hospitals is not None:
        hospitals = np.full(len(patients), -1, dtype=np.int64)
        hospitals[numbers] = records.hospitals
        torn = np.flatnonzero(hospitals[numbers] != records.hospitals)
        if torn.size:
            raise _torn(np.unique(records.patients[torn]).tolist(), names)
    return PatientTable(
        patients=patients, labels=counts.argmax(axis=1).astype(np.int64), hospitals=hospitals
    )


def _torn(patients: list[int], names: tuple[str, ...]) -> DataError:
    """Return the error that patients lie in several hospitals."""
    named = ", ".join(names[one] if names else f"number {one}" for one in patients[:_NAMED])
    more = f" and {len(patients) - _NAMED} more" if len(patients) > _NAMED else ""
    whose, lie = ("patient", "lies") if len(patients) == 1 else ("patients", "lie")
    return DataError(
        f"{whose} {named}{more} {lie} in two or more hospitals: a patient belongs to one. If "
        "hospitals number their patients alike, put the hospital's name before the number "
        "(lyon-001); if it is the same person, keep their rows at one hospital",
        code="patient-overlap",
    )


@dataclass(frozen=True, kw_only=True)
class Split:
    """What a partition is asked for.

    Attributes:
        hospitals: how many, K.
        alpha: Dirichlet concentration, of labels or of sizes.
        shards: shards, or classes, of each hospital.
        seed: public.
    """

    hospitals: int
    alpha: float
    shards: int
    seed: int


#: (what is asked for, shuffled table) -> each hospital's rows of the table.
Builder = Callable[[Split, PatientTable], list[Ints]]


def _iid(split: Split, table: PatientTable) -> list[Ints]:
    return np.array_split(np.arange(len(table.patients)), split.hospitals)


def _dirichlet(split: Split, table: PatientTable) -> list[Ints]:
    """Deal each class by shares of its own: Hsu, Qi and Brown (2019), section 3.

    Who goes where is what flwr-datasets' `DirichletPartitioner` deals for the same seed.
    """
    generator = np.random.default_rng(split.seed)
    parts: list[list[Ints]] = [[] for _ in range(split.hospitals)]
    for label in np.unique(table.labels):
        rows = np.flatnonzero(table.labels == label)
        shares = generator.dirichlet(np.full(split.hospitals, float(split.alpha)))
        cuts = (np.cumsum(shares) * len(rows)).astype(int)[:-1]
        for part, mine in zip(parts, np.split(rows, cuts), strict=True):
            part.append(mine)
    return [np.concatenate(part) for part in parts]


def _shards(split: Split, table: PatientTable) -> list[Ints]:
    from flwr_datasets.partitioner import ShardPartitioner

    partitioner = ShardPartitioner(
        num_partitions=split.hospitals,
        partition_by="label",
        num_shards_per_partition=split.shards,
        seed=split.seed,
    )
    return _by_flower(partitioner, table)


def _pathological(split: Split, table: PatientTable) -> list[Ints]:
    from flwr_datasets.partitioner import PathologicalPartitioner

    partitioner = PathologicalPartitioner(
        num_partitions=split.hospitals,
        partition_by="label",
        num_classes_per_partition=min(split.shards, len(np.unique(table.labels))),
        class_assignment_mode="deterministic",
        seed=split.seed,
    )
    return _by_flower(partitioner, table)


def _quantity(split: Split, table: PatientTable) -> list[Ints]:
    generator = np.random.default_rng([split.seed, 0x512E])
    shares = np.cumsum(generator.dirichlet(np.full(split.hospitals, split.alpha)))
    cuts = np.rint(shares * len(table.patients)).astype(int)[:-1]
    parts = np.split(np.arange(len(table.patients)), cuts)
    # Hospitals without patients come last.
    return sorted(parts, key=lambda part: not len(part))


def _natural(split: Split, table: PatientTable) -> list[Ints]:
    assert table.hospitals is not None
    return [np.flatnonzero(table.hospitals == one) for one in np.unique(table.hospitals)]


PARTITIONS: dict[str, Builder] = {
    "dirichlet": _dirichlet,  # label shares drawn from Dirichlet(alpha) for each class
    "iid": _iid,
    "natural": _natural,  # the real hospitals of the data
    "pathological": _pathological,  # `shards` classes per hospital
    "quantity": _quantity,  # sizes drawn from Dirichlet(alpha)
    "shards": _shards,  # `shards` runs of patients sorted by label
}


def hospital_label(number: int, hospitals: int) -> str:
    """Name a simulated hospital so that names sort in numeric order."""
    return f"hospital-{number:0{max(2, len(str(hospitals - 1)))}d}"


def partition_patients(
    table: PatientTable,
    *,
    name: str,
    hospitals: int,
    alpha: float = 0.5,
    shards: int = 2,
    seed: int = 0,
    hospital_names: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], list[Ints]]:
    """Split patients over hospitals; each patient goes to exactly one.

    One hospital (pooled data) holds everything, whatever the partition.

    Args:
        table: one row per patient.
        name: a key of `PARTITIONS`.
        hospitals: K.
        alpha: concentration of `dirichlet` (labels) and `quantity` (sizes); small is skewed.
        shards: of `shards`, or classes of `pathological`, a hospital.
        seed: public.
        hospital_names: of the numbers in the table, for `natural`.

    Returns:
        Hospital names, sorted, and the int64 patient numbers of each, ascending.

    Raises:
        DataError: an unknown partition, or a number of hospitals that it cannot make.
    """
    split = Split(hospitals=hospitals, alpha=alpha, shards=shards, seed=seed)
    _check_split(name, split, len(table.patients))
    labels = tuple(hospital_label(k, hospitals) for k in range(hospitals))
    if hospitals == 1:
        return labels, [table.patients]
    if name == "natural":
        _check_natural(table, hospitals, hospital_names)
    try:
        parts = _apply(PARTITIONS[name], split, table)
    except ValueError as error:
        raise DataError(
            f"partition {name} cannot make {hospitals} hospitals of {len(table.patients)} "
            f"patients: {error}",
            code="partition",
        ) from error
    if name == "natural":
        return _named(table, parts, hospital_names)
    parts += [np.zeros(0, dtype=np.int64)] * (hospitals - len(parts))
    return labels, _deal_leftovers(table, parts)


def _check_split(name: str, split: Split, patients: int) -> None:
    if name not in PARTITIONS:
        raise DataError(
            f"unknown partition {name!r}; known: {', '.join(sorted(PARTITIONS))}", code="partition"
        )
    if not 1 <= split.hospitals <= patients:
        raise DataError(
            f"partition.hospitals is {split.hospitals}, but there {_patients(patients)} to deal, "
            f"the holdout's aside; expected 1 to at most {patients}",
            code="partition",
        )
    if not split.alpha > 0 or split.shards < 1:
        raise DataError(
            f"partition.alpha is {split.alpha} and partition.shards {split.shards}; expected above "
            "0 and at least 1",
            code="partition",
        )


def _patients(count: int) -> str:
    return "is 1 patient" if count == 1 else f"are {count} patients"


def _check_natural(table: PatientTable, hospitals: int, names: tuple[str, ...]) -> None:
    if table.hospitals is None:
        raise DataError(
            "partition.name is natural, but the data set names no hospitals", code="partition"
        )
    present = len(np.unique(table.hospitals))
    if hospitals != present:
        raise DataError(
            f"partition.hospitals is {hospitals}, but the data come from {present} real hospitals "
            f"({', '.join(names)}): set it to {present}",
            code="partition",
        )


def _named(
    table: PatientTable, parts: list[Ints], names: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Ints]]:
    """Put real hospitals in the order of their names."""
    assert table.hospitals is not None
    owner = dict(zip(table.patients.tolist(), table.hospitals.tolist(), strict=True))
    named = {names[owner[int(part[0])]]: part for part in parts}
    return tuple(sorted(named)), [named[one] for one in sorted(named)]


def _apply(build: Builder, split: Split, table: PatientTable) -> list[Ints]:
    """Return each hospital's patients, ascending."""
    # Runs of rows are cut; without the shuffle they would follow the file's own order.
    order = np.random.default_rng([split.seed, 0x5117]).permutation(len(table.patients))
    shuffled = PatientTable(
        patients=table.patients[order],
        labels=table.labels[order],
        hospitals=None if table.hospitals is None else table.hospitals[order],
    )
    return [np.sort(shuffled.patients[rows]) for rows in build(split, shuffled)]


def _by_flower(partitioner: Any, table: PatientTable) -> list[Ints]:
    """Run a flwr-datasets partitioner over a table."""
    import datasets

    columns = {"row": np.arange(len(table.patients)), "label": table.labels}
    partitioner.dataset = datasets.Dataset.from_dict(columns)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        # Unused classes are dealt afterwards; a bar on the terminal would tear our own.
        warnings.simplefilter("ignore")
        return [
            np.asarray(partitioner.load_partition(k)["row"], dtype=np.int64)
            for k in range(partitioner.num_partitions)
        ]


def _deal_leftovers(table: PatientTable, parts: list[Ints]) -> list[Ints]:
    """Give patients left over by a partitioner to the smallest hospital that knows their label."""
    labels = dict(zip(table.patients.tolist(), table.labels.tolist(), strict=True))
    taken = np.concatenate(parts)
    left = np.setdiff1d(table.patients, taken)
    if not left.size:
        return parts
    homes = [part.tolist() for part in parts]
    known = [{labels[patient] for patient in home} for home in homes]
    for patient in left.tolist():
        able = [k for k, seen in enumerate(known) if labels[patient] in seen]
        chosen = min(able or range(len(homes)), key=lambda k: (len(homes[k]), k))
        homes[chosen].append(patient)
        known[chosen].add(labels[patient])
    return [np.sort(np.asarray(home, dtype=np.int64)) for home in homes]
