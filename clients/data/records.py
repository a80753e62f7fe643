"""Patients' records as arrays: what a hospital holds, and how a part is taken without copying.

    records = Records(inputs=x, labels=y, patients=p)   # one row per image or table line
    some = records.take([3, 5, 8])                      # float32 inputs of three rows

`inputs` is a float32 array for tables, or a `LazyInputs` for images: a view (a shared store and row
numbers) that decodes and scales only the rows asked for, so that ten hospitals share one copy of
the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from accounting.private import Unreleased
from clients.contract.stages import report
from clients.data.errors import DataError
from clients.tasks.catalogue import TaskError, check_suits, task_of
from clients.tasks.question import SEGMENTATION, UNREAD, Question

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

    def read(self, rows: Ints) -> NDArray[Any]:
        """Return the given rows, ``[n, *shape]``: inputs decoded and scaled by public constants.

        Nothing is raised for a row that cannot be read: it is all NaN, of targets all `UNREAD`.
        """


class LazyRows:
    """A view on some rows of a `Store` that indexes like an array."""

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

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> NDArray[Any]:
        chosen = self.rows[rows]
        if np.ndim(chosen) == 0:
            return np.asarray(self.store.read(np.asarray([chosen], dtype=np.int64))[0])
        return self.store.read(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        everything = self.store.read(self.rows)
        return np.asarray(everything, dtype=dtype)

    def view(self, rows: Rows) -> Self:
        """Return the same store seen through fewer rows; nothing is read."""
        return type(self)(self.store, np.atleast_1d(self.rows[rows]))


class LazyInputs(LazyRows):
    """Inputs that are decoded and scaled as they are asked for, float32."""

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def pixels(self, rows: Ints) -> NDArray[np.uint8] | None:
        """Return rows as the bytes that they are kept as, 255 times what is read.

        None where they are kept in another form.
        """
        store = self.store
        return store.pixels(self.rows[rows]) if isinstance(store, PixelStore) else None


class LazyTargets(LazyRows):
    """Targets that are read as they are asked for; one that cannot be read is `UNREAD` throughout.

    Nobody looks at all of them: neither memory nor time tells how many there are.
    """

    def read_well(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows can be read, bool ``[n]``."""
        found = self[rows]
        return np.asarray((found != UNREAD).reshape(len(found), -1).all(axis=1))


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
        labels: int64 [n], class numbers; or other targets, as `clients.tasks.question` has them,
            an array, or a lazy view of a real hospital's masks.
        patients: int64 [n], dense numbers, unique over the whole data set: rows that carry the same
            number are one patient and are clipped, sampled and moved together.
        hospitals: int64 [n] numbers of real hospitals, where the data set has them.
    """

    inputs: Inputs
    labels: NDArray[Any] | LazyTargets
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
        inputs, labels = self.inputs, self.labels
        return Records(
            inputs=inputs.view(rows) if isinstance(inputs, LazyInputs) else inputs[rows],
            labels=labels.view(rows) if isinstance(labels, LazyTargets) else labels[rows],
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
    """Return the records whose inputs and targets can be read: the very same ones, where all can.

    Rows held in memory can always be.
    """
    inputs, labels = records.inputs, records.labels
    late = isinstance(inputs, LazyInputs) and not isinstance(inputs.store, ArrayStore | PixelStore)
    if not (late or isinstance(labels, LazyTargets)):
        return records
    good = np.ones(len(records), dtype=bool)
    for start in range(0, len(records), _BLOCK):
        report("opening pictures", start, len(records))
        rows = slice(start, start + _BLOCK)
        if late:
            block = inputs[rows]
            good[rows] = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if isinstance(labels, LazyTargets):
            good[rows] &= labels.read_well(rows)
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


#: Facts that only some tasks have.
_OF_SOME_TASKS = ("target_range", "horizons", "asked")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is public about a data set: its shape and where it comes from, no count of any patient.

    Attributes:
        name: key in the table of data sets, with its variant ("medmnist:retinamnist").
        title: a line for people.
        task: kind of the targets: "binary", "multiclass" or "ordinal" (grades, judged by quadratic
            kappa too), "multi-label", "regression", "survival" or "segmentation".
        shape: of one input row; pictures are (channels, height, width).
        classes: names of the classes or labels, in order; none of measurements and times.
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
        target_range: of a measurement to be learnt: its lowest and highest value.
        horizons: of times to be learnt: ends of the intervals that an event is looked for in.
        asked: how targets are learnt, as the run's ``task.name`` says; "" for the usual way.
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
    target_range: tuple[float, float] = (0.0, 1.0)
    horizons: tuple[float, ...] = ()
    asked: str = ""

    @property
    def question(self) -> Question:
        """The public form of what there is to learn."""
        return Question(
            kind=self.task,
            asked=self.asked,
            names=self.classes,
            range=self.target_range,
            horizons=self.horizons,
            space=tuple(self.shape[1:]) if self.task == SEGMENTATION else (),
        )

    @property
    def outputs(self) -> int:
        """How many values a model says of a record, or of each pixel of it."""
        return task_of(self.question).outputs

    def said(self) -> dict[str, Any]:
        """Return these facts, JSON-ready; what only some tasks have is left out of the others."""
        whole = asdict(self)
        unsaid = {one.name: one.default for one in fields(self) if one.name in _OF_SOME_TASKS}
        return {
            key: value for key, value in whole.items() if key not in unsaid or value != unsaid[key]
        }

    @property
    def own(self) -> OwnTask | None:
        """The model and the loss that an app brings with its records; None where they are named."""
        return None

    @property
    def unit(self) -> str:
        """Whom a guarantee covers: a "patient", or a "record" where nobody knows whose it is."""
        return "patient" if self.has_patient_ids or self.one_record_each else "record"

    def __post_init__(self) -> None:
        if found := self.question.faults():
            raise DataError(f"{self.name}: {'; '.join(found)}", code="labels")


def posed(info: DatasetInfo, task: str) -> DatasetInfo:
    """Return a data set's facts with the question that a run asks of it.

    Args:
        info: of the data.
        task: ``task.name`` of the run.

    Raises:
        DataError: `task`: there is no such task, or it is for other targets.
    """
    if not task or info.own is not None:
        return info
    asked = replace(info, asked=task)
    try:
        check_suits(asked.question)
    except TaskError as error:
        raise DataError(f"{info.name}: {error}", code="task") from None
    return asked
