"""A cohort: one data set split, by patient, into a public holdout and the hospitals' own records.

    cohort = load_cohort(settings, hospitals=10)
    cohort.hospital(cohort.names[0])       # what that hospital trains on
    cohort.holdout                         # public: for evaluation

All splitting happens on a table with one row per patient, so that no patient lies in two places.
The number of patients, in all and per hospital, is a declared public constant of the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.data.catalogue import load_dataset
from clients.data.errors import DataError
from clients.data.records import Dataset, DatasetInfo, Ints, Records
from clients.partition import partition_patients, patient_table


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The hospitals of one training and what each holds.

    Attributes:
        info: public facts of the data set.
        names: hospitals, sorted; sums and streams are ordered by them.
        holdout: public rows for evaluation, of patients that no hospital trains on.
        records: hospital -> its own training rows.
        tests: hospital -> its own test rows, where the data are split so.
    """

    info: DatasetInfo
    names: tuple[str, ...]
    holdout: Records
    records: dict[str, Records] = field(repr=False)
    tests: dict[str, Records] = field(default_factory=dict, repr=False)

    def hospital(self, name: str) -> Records:
        """Return what one hospital trains on (possibly nothing)."""
        try:
            return self.records[name]
        except KeyError:
            raise DataError(
                f"no hospital {name!r}; the cohort has {', '.join(self.names)}",
                code="unknown-hospital",
            ) from None

    def hospital_test(self, name: str) -> Records | None:
        """Return one hospital's own test rows, or None where it has none."""
        self.hospital(name)
        return self.tests.get(name)

    @property
    def patients_by_hospital(self) -> dict[str, int]:
        """Declared number of training patients of each hospital (N_k)."""
        return {name: len(self.records[name].patient_ids) for name in self.names}

    @property
    def patients(self) -> int:
        """Declared number of training patients of the cohort (N)."""
        return sum(self.patients_by_hospital.values())


_COHORTS: dict[tuple[Any, ...], Cohort] = {}


def load_cohort(settings: Any, hospitals: int) -> Cohort:
    """Return the cohort that the settings describe, cached for the life of the process.

    Args:
        settings: reads data.name, .dir, .holdout, partition.name, .alpha and run.seed.
        hospitals: how many hospitals to split into; a natural partition must agree.

    Raises:
        DataError: anything wrong with the files, the split or the number of hospitals.
    """
    key = (
        settings.data.name,
        str(settings.data.dir),
        float(settings.data.holdout),
        settings.partition.name,
        float(settings.partition.alpha),
        int(hospitals),
        max(int(settings.run.seed), 0),
    )
    if key not in _COHORTS:
        _COHORTS[key] = _build(settings, hospitals)
    return _COHORTS[key]


def _build(settings: Any, hospitals: int) -> Cohort:
    dataset = load_dataset(settings.data.name, settings.data.dir)
    seed = max(int(settings.run.seed), 0)
    train, holdout = _public_holdout(dataset, float(settings.data.holdout), seed)
    names, parts = partition_patients(
        train,
        name=settings.partition.name,
        hospitals=hospitals,
        alpha=float(settings.partition.alpha),
        seed=seed,
        hospital_names=dataset.hospital_names,
    )
    return Cohort(
        info=dataset.info,
        names=names,
        holdout=holdout,
        records={
            name: train.of_patients(patients) for name, patients in zip(names, parts, strict=True)
        },
    )


def _public_holdout(dataset: Dataset, share: float, seed: int) -> tuple[Records, Records]:
    """Return (rows to train on, public rows): the official test split where there is one."""
    if dataset.test is not None:
        return dataset.train, dataset.test
    if not 0 < share < 1:
        raise DataError(
            f"data.holdout is {share}, expected a share between 0 and 1: "
            f"{dataset.info.name} has no official test split",
            code="holdout",
        )
    held = split_patients(dataset.train, share, seed)
    rows = np.isin(dataset.train.patients, held)
    return dataset.train.take(np.flatnonzero(~rows)), dataset.train.take(np.flatnonzero(rows))


def split_patients(records: Records, share: float, seed: int) -> Ints:
    """Choose a share of the patients of every class (at least one of each) by a public seed."""
    table = patient_table(records)
    generator = np.random.default_rng([seed, 0x401D])
    held: list[Ints] = []
    for label in np.unique(table.labels):
        of_class = generator.permutation(table.patients[table.labels == label])
        held.append(of_class[: max(1, round(share * len(of_class)))])
    return np.sort(np.concatenate(held)) if held else np.zeros(0, dtype=np.int64)
