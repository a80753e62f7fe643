"""Patients' records as arrays: what a hospital holds, and how a part is taken without copying.

    records = Records(inputs=x, labels=y, patients=p)   # one row per image or table line
    some = records.take([3, 5, 8])                      # float32 inputs of three rows

`inputs` is a float32 array for tables, or a `LazyInputs` for images: a view (a shared store and row
numbers) that decodes and scales only the rows asked for, so that ten hospitals share one copy of
the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.contract.stages import report
from clients.data.errors import DataError
from clients.data.reading_log import ReadingLog

if TYPE_CHECKING:
    from clients.contract.own_task import OwnTask

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Rows = Any  # an int, a slice, a boolean mask or integer row numbers


class Store(Protocol):
    """Where the rows of a data set really are: one object per process, shared by all views."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of one row as a model sees it."""

    def read(self, rows: Ints) -> Floats:
        """Return the given rows, decoded and scaled by public constants, float32 [n, *shape].

        Nothing is raised for a row that cannot be read: it is all NaN.
        """


class LazyInputs:
    """A view on some rows of a `Store` that indexes like a float32 array."""

    def __init__(self, store: Store, rows: Ints | None = None) -> None:
        self.store = store
        self.rows: Ints = np.arange(store.shape[0], dtype=np.int64) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of this view, then the shape of one row."""
        return (len(self.rows), *self.store.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> Floats:
        chosen = self.rows[rows]
        if np.ndim(chosen) == 0:
            row: Floats = self.store.read(np.asarray([chosen], dtype=np.int64))[0]
            return row
        return self.store.read(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        everything = self.store.read(self.rows)
        return np.asarray(everything, dtype=dtype)

    def pixels(self, rows: Ints) -> NDArray[np.uint8] | None:
        """Return rows as the bytes that they are kept as, 255 times what is read.

        None where they are kept in another form.
        """
        store = self.store
        return store.pixels(self.rows[rows]) if isinstance(store, PixelStore) else None

    def view(self, rows: Rows) -> LazyInputs:
        """Return the same store seen through fewer rows; nothing is decoded."""
        return LazyInputs(self.store, np.atleast_1d(self.rows[rows]))


class ArrayStore:
    """Float rows in memory, shared by all views."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then the shape of one."""
        return self._values.shape

    def read(self, rows: Ints) -> Floats:
        """Return a copy of the rows."""
        return self._values[rows]


Inputs = Floats | LazyInputs


class PixelStore:
    """Pictures or volumes held once as bytes [n, *space] or [n, *space, channels], read as [0, 1].

    Reading moves the channel axis first and divides by 255: a public constant, not a statistic.
    """

    def __init__(self, pixels: NDArray[np.uint8], *, channels_last: bool) -> None:
        self._pixels = pixels
        self._channels_last = channels_last

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, then space."""
        n, *space = self._pixels.shape
        if self._channels_last:
            return (n, space[-1], *space[:-1])
        return (n, 1, *space)

    def pixels(self, rows: Ints) -> NDArray[np.uint8]:
        """Return the rows as bytes, channels first."""
        chosen = self._pixels[rows]
        return np.moveaxis(chosen, -1, 1) if self._channels_last else chosen[:, None]

    def read(self, rows: Ints) -> Floats:
        """Return the rows as float32 in [0, 1], channels first."""
        moved = self.pixels(rows)
        return np.asarray(np.ascontiguousarray(moved, dtype=np.float32) / np.float32(255))


#: Kinds of data that can be shifted and mirrored.
SPATIAL_KINDS = ("image", "volume")


@dataclass(frozen=True, kw_only=True)
class Records(Unreleased):
    """Rows of a data set.

    Attributes:
        inputs: float32 [n, *shape], an array or a lazy view of one.
        labels: int64 [n], class numbers.
        patients: int64 [n], dense numbers, unique over the whole data set: rows that carry the same
            number are one patient and are clipped, sampled and moved together.
        hospitals: int64 [n] numbers of real hospitals, where the data set has them.
    """

    inputs: Inputs
    labels: Ints
    patients: Ints
    hospitals: Ints | None = None

    def __post_init__(self) -> None:
        lengths = {"inputs": len(self.inputs), "labels": len(self.labels)}
        lengths["patients"] = len(self.patients)
        if self.hospitals is not None:
            lengths["hospitals"] = len(self.hospitals)
        if len(set(lengths.values())) != 1:
            raise DataError(f"columns differ in length: {lengths}", code="shape")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Rows) -> Records:
        """Return some rows, in the order given; lazy inputs stay lazy and shared."""
        inputs = self.inputs
        return Records(
            inputs=inputs.view(rows) if isinstance(inputs, LazyInputs) else inputs[rows],
            labels=self.labels[rows],
            patients=self.patients[rows],
            hospitals=None if self.hospitals is None else self.hospitals[rows],
        )

    def of_patients(self, patients: Ints) -> Records:
        """Return all rows of the given patients, in the order of the data set."""
        return self.take(np.flatnonzero(np.isin(self.patients, patients)))

    @property
    def patient_ids(self) -> Ints:
        """The distinct patients here, ascending."""
        return np.unique(self.patients)

    def with_inputs(self, inputs: Inputs) -> Records:
        """Return the same rows with other inputs (extracted features)."""
        return Records(
            inputs=inputs, labels=self.labels, patients=self.patients, hospitals=self.hospitals
        )


#: Rows that are looked at together.
_BLOCK = 64


def readable(records: Records) -> Records:
    """Return the records whose inputs can be read: the very same ones, where all can.

    Rows held in memory can always be.
    """
    inputs = records.inputs
    if not isinstance(inputs, LazyInputs) or isinstance(inputs.store, ArrayStore | PixelStore):
        return records
    good = np.ones(len(records), dtype=bool)
    for start in range(0, len(records), _BLOCK):
        report("opening pictures", start, len(records))
        block = inputs[start : start + _BLOCK]
        good[start : start + _BLOCK] = np.isfinite(block).reshape(len(block), -1).all(axis=1)
    report("opening pictures", len(records), len(records))
    return records if good.all() else records.take(np.flatnonzero(good))


def join(first: Records, second: Records) -> Records:
    """Return the rows of both; neither may be lazy over different stores."""
    if isinstance(first.inputs, LazyInputs) and isinstance(second.inputs, LazyInputs):
        if first.inputs.store is not second.inputs.store:
            raise DataError("records of two stores cannot be joined lazily", code="shape")
        inputs: Inputs = LazyInputs(
            first.inputs.store, np.concatenate([first.inputs.rows, second.inputs.rows])
        )
    else:
        inputs = np.concatenate([np.asarray(first.inputs), np.asarray(second.inputs)])
    hospitals = None
    if first.hospitals is not None and second.hospitals is not None:
        hospitals = np.concatenate([first.hospitals, second.hospitals])
    return Records(
        inputs=inputs,
        labels=np.concatenate([first.labels, second.labels]),
        patients=np.concatenate([first.patients, second.patients]),
        hospitals=hospitals,
    )


def dense(values: Any) -> tuple[Ints, tuple[str, ...]]:
    """Number arbitrary identifiers 0, 1, ... in sorted order.

    Each text stands for itself: in an array of texts all would be as wide as the longest, so that
    one patient's identifier could take the memory that there is.

    Returns:
        int64 [n] numbers, and the identifier behind each number.
    """
    listed = list(values)
    if not all(type(one) is str for one in listed):
        listed = np.asarray(values).reshape(-1).astype(str).tolist()
    names = sorted(set(listed))
    number_of = {name: number for number, name in enumerate(names)}
    return np.array([number_of[one] for one in listed], dtype=np.int64), tuple(names)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is public about a data set: its shape and where it comes from, no count of any patient.

    Attributes:
        name: key in the table of data sets, with its variant ("medmnist:retinamnist").
        title: a line for people.
        task: "binary", "multiclass" or "ordinal" (grades, judged by quadratic kappa too).
        shape: of one input row; pictures are (channels, height, width).
        classes: names of the classes, in label order.
        kind: "table", "image", "volume" or "series".
        input_range: lowest and highest value an input can take, a public fact.
        has_patient_ids: several rows can belong to one patient.
        one_record_each: a published fact: no patient has a second record.
        has_hospital_ids: rows carry real hospitals (the natural partition).
        licence: of the data.
        source: where to get them.
        files: expected file -> md5 ("" where any file will do).
        declared: what the file beside the data declares, key -> value as it is spelled there, of
            that which all hospitals must agree on; empty where nothing is declared.
        target: of a declared table: the column that holds the label.
    """

    name: str
    title: str
    task: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    kind: str = "table"
    input_range: tuple[float, float] = (-1.0, 1.0)
    has_patient_ids: bool = False
    one_record_each: bool = False
    has_hospital_ids: bool = False
    licence: str = ""
    source: str = ""
    files: tuple[tuple[str, str], ...] = ()
    declared: Mapping[str, str] = field(default_factory=dict)
    target: str = ""

    @property
    def own(self) -> OwnTask | None:
        """The model and the loss that an app brings with its records; None where they are named."""
        return None

    @property
    def unit(self) -> str:
        """Whom a guarantee covers: a "patient", or a "record" where nobody knows whose it is."""
        return "patient" if self.has_patient_ids or self.one_record_each else "record"

    def __post_init__(self) -> None:
        if self.task not in ("binary", "multiclass", "ordinal"):
            raise DataError(f"task is {self.task!r}, expected binary, multiclass or ordinal")
        if len(self.classes) < 2:
            raise DataError(
                f"{self.name}: {len(self.classes)} class, expected at least two", code="labels"
            )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory (or lazily on disk): rows to train on, and an official test split.

    Attributes:
        info: the public facts.
        train: rows that become the hospitals' own (less the holdout, if there is no `test`).
        test: the official public test split, or None.
        hospital_names: the real hospital behind each number in `train.hospitals`.
        patient_names: the hospital's own identifier behind each number in `train.patients`; for its
            own log alone.
        log: what could not be read.

    Records whose label is no class are left out, and test records of patients who are trained on:
    what a hospital answers must not depend on any one record.
    """

    info: DatasetInfo
    train: Records
    test: Records | None = None
    hospital_names: tuple[str, ...] = ()
    patient_names: tuple[str, ...] = field(default=(), repr=False, compare=False)
    log: ReadingLog = field(default_factory=ReadingLog, repr=False, compare=False)

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            if part is not None and tuple(part.inputs.shape[1:]) != self.info.shape:
                raise DataError(
                    f"{self.info.name}: inputs of shape {tuple(part.inputs.shape[1:])}, "
                    f"expected {self.info.shape}",
                    code="shape",
                )
        object.__setattr__(self, "train", self._of_known_classes(self.train, "train"))
        if self.test is not None:
            test = self._of_known_classes(self.test, "test")
            object.__setattr__(self, "test", self._apart(test))

    def _of_known_classes(self, part: Records, name: str) -> Records:
        """Return the records whose label is one of the classes."""
        classes = len(self.info.classes)
        known = (part.labels >= 0) & (part.labels < classes)
        if known.all():
            return part
        row = int(np.flatnonzero(~known)[0])
        self.log.note(
            "no declared class: the record is out",
            f"{self.info.name}: {name} row {row}: label {part.labels[row]}, "
            f"expected 0..{classes - 1}",
            count=int((~known).sum()),
        )
        return part.take(np.flatnonzero(known))

    def _apart(self, test: Records) -> Records:
        """Return the test records of patients who are not trained on."""
        both = np.isin(test.patients, self.train.patients)
        if not both.any():
            return test
        row = int(np.flatnonzero(both)[0])
        named = f": patient {self.patient_names[test.patients[row]]}" if self.patient_names else ""
        self.log.note(
            "of a patient who is trained on: the test record is out",
            f"{self.info.name}: test row {row}{named}; a patient's records all belong to one part",
            count=int(both.sum()),
        )
        return test.take(np.flatnonzero(~both))
