"""A cohort: one data set split, by patient, into a public holdout and the hospitals' own records.

    cohort = load_cohort(settings, hospitals=10)
    cohort.hospital(cohort.names[0])       # what that hospital trains on
    cohort.holdout                         # public: for evaluation

All splitting happens on a table with one row per patient, so that no patient lies in two places.
The number of patients, in all and per hospital, is a declared public constant of the cohort. The
holdout does not depend on how the rest is split, so regimes and partitions are judged on the same
patients.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.data.catalogue import load_dataset
from clients.data.errors import DataError
from clients.data.records import Dataset, DatasetInfo, Ints, Records
from clients.data.scanner import through_scanners

if TYPE_CHECKING:
    from clients.data.partition import PatientTable


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The hospitals of one training and what each holds.

    Attributes:
        info: public facts of the data set.
        names: hospitals, sorted; sums and streams are ordered by them.
        holdout: public rows for evaluation, of patients that no hospital trains on.
        records: hospital -> its own training rows.
        tests: hospital -> its own test rows, a part of the holdout; only for data declared public.
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
        """Return one hospital's own test rows, or None where data are not declared public."""
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


_KEPT = 4  # data sets and cohorts a process remembers
_DATASETS: OrderedDict[tuple[Any, ...], Dataset] = OrderedDict()
_COHORTS: OrderedDict[tuple[Any, ...], Cohort] = OrderedDict()


def _remember(cache: OrderedDict[tuple[Any, ...], Any], key: tuple[Any, ...], value: Any) -> Any:
    cache[key] = value
    while len(cache) > _KEPT:
        cache.popitem(last=False)
    return value


def public_seed(settings: Any) -> int:
    """Return the seed of what is public anyway: who is in which hospital and in the holdout."""
    return max(int(settings.run.seed), 0)


def load_cohort(settings: Any, hospitals: int) -> Cohort:
    """Return the cohort that the settings describe, cached in this process.

    Args:
        settings: reads data.{name,dir,public,holdout,image_size}, run.seed and
            partition.{name,alpha,shards,shift}.
        hospitals: how many hospitals to split into; a natural partition must agree.

    Raises:
        DataError: anything wrong with the files, the split or the number of hospitals.
    """
    data, partition = settings.data, settings.partition
    source = (
        data.name,
        str(Path(data.dir).expanduser()) if data.dir else "",
        int(getattr(data, "image_size", 64)),
    )
    split = (
        float(data.holdout),
        bool(getattr(data, "public", False)),
        partition.name,
        float(partition.alpha),
        int(getattr(partition, "shards", 2)),
        float(getattr(partition, "shift", 0.0)),
        int(hospitals),
        public_seed(settings),
    )
    key = (*source, *split)
    if key in _COHORTS:
        return _COHORTS[key]
    if source not in _DATASETS:
        _remember(_DATASETS, source, load_dataset(source[0], source[1], image_size=source[2]))
    cohort: Cohort = _remember(_COHORTS, key, _build(_DATASETS[source], *split))
    return cohort


def _build(
    dataset: Dataset,
    share: float,
    public: bool,
    name: str,
    alpha: float,
    shards: int,
    shift: float,
    hospitals: int,
    seed: int,
) -> Cohort:
    from clients.data.partition import partition_patients, patient_table

    train, holdout = public_holdout(dataset, share, seed)
    table = patient_table(train)
    names, parts = partition_patients(
        table,
        name=name,
        hospitals=hospitals,
        alpha=alpha,
        shards=shards,
        seed=seed,
        hospital_names=dataset.hospital_names,
    )
    records = {one: train.of_patients(part) for one, part in zip(names, parts, strict=True)}
    tests: dict[str, Records] = {}
    if public:
        natural = name == "natural" and hospitals > 1
        dealt = deal_holdout(patient_table(holdout), table, parts, seed, natural=natural)
        tests = {one: holdout.of_patients(part) for one, part in zip(names, dealt, strict=True)}
    if shift:
        records = through_scanners(dataset.info, records, strength=shift, seed=seed)
        tests = through_scanners(dataset.info, tests, strength=shift, seed=seed)
    return Cohort(info=dataset.info, names=names, holdout=holdout, records=records, tests=tests)


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
    held = hold_out_patients(patient_table(dataset.train), share, seed)
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
