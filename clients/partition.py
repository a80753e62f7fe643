"""Splitting a cohort's patients over hospitals, evenly or as unevenly as real hospitals are.

Every splitter works on a table with one row per patient, through flwr-datasets' partitioners; a
hospital may end up with no patient at all and still takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.data.errors import DataError

if TYPE_CHECKING:
    from clients.data.records import Ints, Records


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


def patient_table(records: Records) -> PatientTable:
    """Reduce rows to patients.

    Raises:
        DataError: `patient-overlap` when a patient's rows name two hospitals.
    """
    patients, numbers = np.unique(records.patients, return_inverse=True)
    classes = int(records.labels.max(initial=0)) + 1
    counts = np.zeros((len(patients), classes), dtype=np.int64)
    np.add.at(counts, (numbers, records.labels), 1)
    hospitals = None
    if records.hospitals is not None:
        hospitals = np.full(len(patients), -1, dtype=np.int64)
        hospitals[numbers] = records.hospitals
        torn = np.flatnonzero(hospitals[numbers] != records.hospitals)
        if torn.size:
            patient = int(records.patients[torn[0]])
            raise DataError(
                f"patient number {patient} lies in two hospitals; give each hospital's patients "
                "their own identifiers",
                code="patient-overlap",
            )
    return PatientTable(
        patients=patients, labels=counts.argmax(axis=1).astype(np.int64), hospitals=hospitals
    )


Builder = Callable[[int, float, int], Any]


def _iid(hospitals: int, alpha: float, seed: int) -> Any:
    from flwr_datasets.partitioner import IidPartitioner

    return IidPartitioner(num_partitions=hospitals)


def _dirichlet(hospitals: int, alpha: float, seed: int) -> Any:
    from flwr_datasets.partitioner import DirichletPartitioner

    if not alpha > 0:
        raise DataError(f"partition.alpha is {alpha}, expected above 0", code="partition")
    return DirichletPartitioner(
        num_partitions=hospitals,
        partition_by="label",
        alpha=alpha,
        min_partition_size=0,
        self_balancing=False,
        seed=seed,
    )


def _natural(hospitals: int, alpha: float, seed: int) -> Any:
    from flwr_datasets.partitioner import NaturalIdPartitioner

    return NaturalIdPartitioner(partition_by="hospital")


PARTITIONS: dict[str, Builder] = {"dirichlet": _dirichlet, "iid": _iid, "natural": _natural}


def hospital_label(number: int, hospitals: int) -> str:
    """Name a simulated hospital so that names sort in numeric order."""
    return f"hospital-{number:0{max(2, len(str(hospitals - 1)))}d}"


def partition_patients(
    records: Records,
    *,
    name: str,
    hospitals: int,
    alpha: float,
    seed: int,
    hospital_names: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], list[Ints]]:
    """Split the patients of `records` over hospitals.

    Returns:
        Hospital names, sorted, and the int64 patient numbers of each.

    Raises:
        DataError: an unknown partition, or a number of hospitals that it cannot make.
    """
    if name not in PARTITIONS:
        raise DataError(
            f"unknown partition {name!r}; known: {', '.join(sorted(PARTITIONS))}", code="partition"
        )
    table = patient_table(records)
    if name == "natural":
        _check_natural(table, hospitals, hospital_names)
    if not 1 <= hospitals <= len(table.patients):
        raise DataError(
            f"{hospitals} hospitals for {len(table.patients)} patients; expected 1 to "
            f"{len(table.patients)}",
            code="partition",
        )
    parts = _apply(PARTITIONS[name](hospitals, alpha, seed), table, seed)
    if name == "natural":
        assert table.hospitals is not None
        owner = dict(zip(table.patients.tolist(), table.hospitals.tolist(), strict=True))
        named = {hospital_names[owner[int(part[0])]]: part for part in parts}
        return tuple(sorted(named)), [named[one] for one in sorted(named)]
    return tuple(hospital_label(k, hospitals) for k in range(hospitals)), parts


def _check_natural(table: PatientTable, hospitals: int, names: tuple[str, ...]) -> None:
    if table.hospitals is None:
        raise DataError(
            "partition.name is natural, but the data set names no hospitals", code="partition"
        )
    present = len(np.unique(table.hospitals))
    if hospitals != present:
        raise DataError(
            f"partition.hospitals is {hospitals}, but the data come from {present} real hospitals "
            f"({', '.join(names)})",
            code="partition",
        )


def _apply(partitioner: Any, table: PatientTable, seed: int) -> list[Ints]:
    """Run a flwr-datasets partitioner over the shuffled patient table."""
    import datasets

    order = np.random.default_rng([seed, 0x5117]).permutation(len(table.patients))
    columns = {"patient": table.patients[order], "label": table.labels[order]}
    if table.hospitals is not None:
        columns["hospital"] = table.hospitals[order]
    partitioner.dataset = datasets.Dataset.from_dict(columns)
    return [
        np.sort(np.asarray(partitioner.load_partition(k)["patient"], dtype=np.int64))
        for k in range(partitioner.num_partitions)
    ]
