"""A cohort: one data set split, by patient, into a public holdout and the hospitals' own records.

    cohort = split_cohort(load_dataset("breast-cancer"), settings, hospitals=10)
    cohort.hospital(cohort.names[0])       # what that hospital trains on
    cohort.holdout                         # public: for evaluation

All splitting happens on a table with one row per patient, so that no patient lies in two places.
The number of patients, in all and per hospital, is a declared public constant of the cohort. The
holdout does not depend on how the rest is split, so regimes and partitions are judged on the same
patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.records import DatasetInfo, Ints, Records, join, posed
from clients.data.scanner import through_scanners

#: The names of all hospitals, sorted, and the numbers of the patients of each, ascending.
Deal = tuple[tuple[str, ...], list[Ints]]

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data.partition import PatientTable

#: Where a holdout comes from: a share of the patients, the data's own test part, other data, or
#: there is none.
Origin = Literal["own", "test", "other", "none"]
#: What `data.holdout-from` says for the last.
NONE = "none"


@dataclass(frozen=True, slots=True)
class Outline:
    """What is public of a cohort, without its records.

    Attributes:
        info: public facts of the data set.
        patients_by_hospital: declared number of training patients of each hospital (N_k).
    """

    info: DatasetInfo
    patients_by_hospital: dict[str, int]

    @property
    def patients(self) -> int:
        """Declared number of training patients of the cohort (N)."""
        return sum(self.patients_by_hospital.values())


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The hospitals of one training and what each holds.

    Attributes:
        info: public facts of the data set.
        names: hospitals, sorted; sums and streams are ordered by them.
        holdout: public rows for evaluation, of patients that no hospital trains on.
        records: hospital -> its own training rows.
        tests: hospital -> its own test rows, a part of the holdout; only for data declared public.
        patient_names: the hospital's own name behind each patient's number, where records are a
            hospital's own and name patients; for its own eyes.
        origin: where the holdout comes from.
    """

    info: DatasetInfo
    names: tuple[str, ...]
    holdout: Records
    records: dict[str, Records] = field(repr=False)
    tests: dict[str, Records] = field(default_factory=dict, repr=False)
    patient_names: tuple[str, ...] = field(default=(), repr=False)
    origin: Origin = "none"

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
        """Return one hospital's own test rows, or None where data are not declared public."""
        self.hospital(name)
        return self.tests.get(name)

    @property
    def deal(self) -> Deal:
        """The names of all hospitals, and the numbers of the patients of each."""
        return self.names, [self.records[name].patient_ids for name in self.names]

    @cached_property
    def outline(self) -> Outline:
        """What is public of it."""
        counts = {name: len(self.records[name].patient_ids) for name in self.names}
        return Outline(self.info, counts)

    @property
    def patients_by_hospital(self) -> dict[str, int]:
        """Declared number of training patients of each hospital (N_k)."""
        return self.outline.patients_by_hospital

    @property
    def patients(self) -> int:
        """Declared number of training patients of the cohort (N)."""
        return self.outline.patients


def split_cohort(
    dataset: Dataset,
    settings: Settings,
    hospitals: int,
    judged: Dataset | None = None,
    deal: Deal | None = None,
) -> Cohort:
    """Split a data set into the cohort that the settings describe.

    Args:
        dataset: the data set that the settings name.
        settings: reads data.{public,holdout,holdout-from}, run.seed and
            partition.{name,alpha,shards,shift}.
        hospitals: how many hospitals to split into; a natural partition must agree.
        judged: the data set that `data.holdout-from` names, if it does.
        deal: of the same patients, where it is known already.

    Raises:
        DataError: anything wrong with the split or the task; or the deal is of other patients.
    """
    from clients.data.partition import patient_table

    partition, seed = settings.partition, settings.public_seed
    train, holdout, origin = _parts(dataset, settings, judged)
    table = patient_table(train, dataset.patient_names, dataset.info.question)
    names, parts = deal or _dealt(table, settings, hospitals, dataset.hospital_names)
    if not np.array_equal(np.sort(np.concatenate(parts)), table.patients):
        raise DataError(
            f"{dataset.info.name}: the patients read here are not those that were dealt to "
            "hospitals; all processes of a run must read the same files",
            code="partition",
        )
    records = {one: train.of_patients(part) for one, part in zip(names, parts, strict=True)}
    tests: dict[str, Records] = {}
    if settings.data.public:
        held = patient_table(holdout, question=dataset.info.question)
        natural = partition.name == "natural" and hospitals > 1
        dealt = deal_holdout(held, table, parts, seed, natural=natural)
        tests = {one: holdout.of_patients(part) for one, part in zip(names, dealt, strict=True)}
    if shift := partition.shift:
        records = through_scanners(dataset.info, records, strength=shift, seed=seed)
        tests = through_scanners(dataset.info, tests, strength=shift, seed=seed)
    return Cohort(
        info=posed(dataset.info, settings.task.name),
        names=names,
        holdout=holdout,
        records=records,
        tests=tests,
        origin=origin,
    )


def _dealt(
    table: PatientTable, settings: Settings, hospitals: int, hospital_names: tuple[str, ...]
) -> Deal:
    from clients.data.partition import partition_patients

    return partition_patients(
        table,
        name=settings.partition.name,
        hospitals=hospitals,
        alpha=settings.partition.alpha,
        shards=settings.partition.shards,
        seed=settings.public_seed,
        hospital_names=hospital_names,
    )


def _parts(
    dataset: Dataset, settings: Settings, judged: Dataset | None
) -> tuple[Records, Records, Origin]:
    """Return the rows to train on, the public ones, and where these come from."""
    data = settings.data
    if data.holdout_from:
        own = dataset.train if dataset.test is None else join(dataset.train, dataset.test)
        if judged is None:
            return own, own.take([]), "none"
        return own, records_apart(judged, dataset), "other"
    train, holdout = public_holdout(dataset, data.holdout, settings.public_seed)
    return train, holdout, "own" if dataset.test is None else "test"


def records_apart(judged: Dataset, dataset: Dataset) -> Records:
    """Return all records of a data set that another is judged on, in the other's numbering.

    Those of patients who are trained on are left out, where both name their patients.

    Raises:
        DataError: `holdout`, they are not of the same form: what differs is named.
    """
    mine, theirs = dataset.info, judged.info
    for name in (
        *("task", "shape", "classes", "kind", "input_range", "declared"),
        *("target_range", "horizons"),
    ):
        if getattr(mine, name) != getattr(theirs, name):
            raise DataError(
                f"data.holdout-from = {theirs.name}: its {name.replace('_', ' ')} is "
                f"{getattr(theirs, name)}, that of {mine.name} is {getattr(mine, name)}; models "
                "are measured on records of the form that they learn from",
                code="holdout",
            )
    whole = judged.train if judged.test is None else join(judged.train, judged.test)
    numbers = whole.patients
    if mine.has_patient_ids and dataset.patient_names and judged.patient_names:
        known = {name: number for number, name in enumerate(dataset.patient_names)}
        names = [judged.patient_names[number] for number in numbers.tolist()]
        stays = np.array([name not in known for name in names], dtype=bool)
        if not stays.all():
            dataset.log.note(
                "of a patient who is trained on: the record of the holdout is out",
                f"{theirs.name}: patient {names[int(np.flatnonzero(~stays)[0])]}",
                count=int((~stays).sum()),
            )
        whole = whole.take(np.flatnonzero(stays))
    first = int(dataset.train.patients.max(initial=-1)) + 1
    if dataset.test is not None:
        first = max(first, int(dataset.test.patients.max(initial=-1)) + 1)
    return replace(whole, patients=whole.patients + first, hospitals=None)


def public_holdout(dataset: Dataset, share: float, seed: int) -> tuple[Records, Records]:
    """Return (rows to train on, public rows): the official test split where there is one."""
    from clients.data.partition import patient_table

    if dataset.test is not None:
        return dataset.train, dataset.test
    if not 0 < share < 1:
        raise DataError(
            f"data.holdout is {share}, expected a share between 0 and 1: "
            f"{dataset.info.name} has no official test split",
            code="holdout",
        )
    table = patient_table(dataset.train, dataset.patient_names, dataset.info.question)
    held = hold_out_patients(table, share, seed)
    rows = np.isin(dataset.train.patients, held)
    return dataset.train.take(np.flatnonzero(~rows)), dataset.train.take(np.flatnonzero(rows))


def hold_out_patients(table: PatientTable, share: float, seed: int) -> Ints:
    """Choose a share of the patients of each class and real hospital, by a public seed."""
    generator = np.random.default_rng([seed, 0x401D])
    homes = table.hospitals if table.hospitals is not None else np.zeros_like(table.labels)
    held: list[Ints] = []
    for home in np.unique(homes):
        for label in np.unique(table.labels):
            alike = table.patients[(homes == home) & (table.labels == label)]
            shuffled = generator.permutation(alike)
            held.append(shuffled[: round(share * len(alike))])
    return np.sort(np.concatenate(held)) if held else np.zeros(0, dtype=np.int64)


def deal_holdout(
    holdout: PatientTable, train: PatientTable, parts: list[Ints], seed: int, *, natural: bool
) -> list[Ints]:
    """Deal the holdout's patients to hospitals: to their own, or by each hospital's label shares.

    The label shares are those of private patients, hence only for data declared public.
    """
    if natural and holdout.hospitals is not None and train.hospitals is not None:
        homes = dict(zip(train.patients.tolist(), train.hospitals.tolist(), strict=True))
        return [holdout.patients[holdout.hospitals == homes[int(part[0])]] for part in parts]
    generator = np.random.default_rng([seed, 0xDEA1])
    dealt: list[list[Ints]] = [[] for _ in parts]
    for label in np.unique(holdout.labels):
        of_class = train.patients[train.labels == label]
        held = generator.permutation(holdout.patients[holdout.labels == label])
        counts = np.array([np.isin(part, of_class).sum() for part in parts], dtype=np.float64)
        shares = np.cumsum(counts) / max(counts.sum(), 1.0)
        cuts = np.rint(shares[:-1] * len(held)).astype(np.int64)
        for hospital, some in zip(dealt, np.split(held, cuts), strict=True):
            hospital.append(some)
    empty = np.zeros(0, dtype=np.int64)
    return [np.sort(np.concatenate([empty, *some])) for some in dealt]
