"""One hospital's records, as an app brings them: arrays, or a data loader of torch's.

>>> import numpy as np
>>> two = Patients(np.zeros((3, 4)), np.array([0, 1, 1]), patients=["ada", "ada", "bert"])
>>> two.inputs.dtype, two.numbers.tolist()
(dtype('float32'), [0, 0, 1])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.data.dialect import identifier, says_nothing
from clients.data.records import dense

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Names of a record's parts in a batch that is a mapping, in the order of preference.
_INPUTS = ("inputs", "image", "img", "pixel_values", "x", "features")
_TARGETS = ("targets", "target", "label", "labels", "y")
_PATIENTS = ("patient", "patients", "patient_id")
#: Kind of a target, as numpy names it -> its type; of no other kind is one read.
_TYPES = {"i": np.int64, "u": np.int64, "b": np.int64, "f": np.float32}


class Patients:
    """Records of one hospital's patients; all records of a patient are clipped together.

    Args:
        inputs: ``[n, *shape]``, kept as float32; a record with a value that is not finite is left
            out of the training, and nobody is told.
        targets: ``[n]`` class numbers, or ``[n, *shape]`` of what the loss wants.
        patients: ``[n]`` whose each record is, by any names or numbers; a record that names nobody
            ("", "na", no number) is left out. None: each record counts as somebody of its own, and
            an epsilon is then *per record*, unless it is known that nobody has two.

    Raises:
        ValueError: the parts are not of one length, or targets are no numbers, or of several forms.
    """

    def __init__(
        self, inputs: ArrayLike, targets: ArrayLike, patients: Sequence[object] | None = None
    ) -> None:
        self.inputs: NDArray[np.float32] = np.asarray(inputs, dtype=np.float32)
        self.targets: NDArray[Any] = _typed(targets)
        self.named = patients is not None
        count = len(self.inputs)
        names = [identifier(str(one)) for one in (range(count) if patients is None else patients)]
        if not count == len(self.targets) == len(names):
            raise ValueError(
                f"{count} inputs, {len(self.targets)} targets and {len(names)} patients; "
                "expected as many of each"
            )
        told = [row for row, name in enumerate(names) if not says_nothing(name)]
        if len(told) < count:
            # Else all whom nobody names are one patient, and one of them moves a sum by up to 2 C.
            self.inputs, self.targets = self.inputs[told], self.targets[told]
        self.numbers: NDArray[np.int64] = (
            np.arange(count) if patients is None else dense([names[row] for row in told])[0]
        )

    def __repr__(self) -> str:
        return "Patients(...)"  # whoever logs one must not show how many there are

    @classmethod
    def gathered(cls, data: Any) -> Patients:
        """Return the records of a torch ``Dataset`` or ``DataLoader``, each read once.

        A loader's batches, order and drawing do not count: who is in a batch is drawn anew in each
        round, each patient by chance. Records are read one by one, through the loader's own
        ``collate_fn``; one that cannot be read is left out.

        Args:
            data: its records are ``(input, target)``, ``(input, target, patient)`` or mappings with
                such parts, named for example ``image``, ``label`` and ``patient``.

        Raises:
            ValueError: no record could be read, or records are of two forms: shapes, class numbers
                beside other targets, patients beside nobody's. None may decide which one counts,
                for that would be all others' gradients: bring them to one form, or leave them out.
        """
        dataset, collate = getattr(data, "dataset", data), getattr(data, "collate_fn", None)
        rows = _rows(dataset, collate)
        if not rows:
            raise ValueError(
                "no record could be read as (input, target), (input, target, patient) or a mapping "
                f"of them; found a {type(data).__name__}"
            )
        if len({_form(row) for row in rows}) > 1:
            raise ValueError(
                "records of two forms: shape, kind of target, or whether a patient is named"
            )
        return cls(
            np.stack([row[0] for row in rows]),
            np.stack([row[1] for row in rows]),
            None if rows[0][2] is None else [row[2] for row in rows],
        )


def _rows(dataset: Any, collate: Any) -> list[tuple[NDArray[Any], NDArray[Any], object]]:
    """Return every record that can be read; which cannot must not show in any answer."""
    found = []
    for number in range(len(dataset)):
        try:
            found.append(_row(dataset[number], collate))
        except Exception:  # a record's own fault: it is left out, like one that is not finite
            continue
    return found


def _row(record: Any, collate: Any) -> tuple[NDArray[Any], NDArray[Any], object]:
    """Return (input, target, patient or None) of one record."""
    if collate is not None:
        record = collate([record])
    if isinstance(record, Mapping):
        parts = [_part(record, names) for names in (_INPUTS, _TARGETS)]
        whose = next((record[name] for name in _PATIENTS if name in record), None)
    else:
        parts, whose = list(record[:2]), record[2] if len(record) > 2 else None
    inputs, target = (np.asarray(part) for part in parts)
    if collate is not None:
        inputs, target = inputs[0], target[0]
        whose = None if whose is None else whose[0]
    number = getattr(whose, "item", None)
    # Here, record by record: of several types numpy would choose one for all.
    target = target.astype(_TYPES[target.dtype.kind])
    return inputs.astype(np.float32), target, whose if number is None else number()


def _form(row: tuple[NDArray[Any], NDArray[Any], object]) -> tuple[object, ...]:
    """Return what all records must have in common; it names no value."""
    inputs, target, patient = row
    return inputs.shape, target.shape, target.dtype.kind in "iub", patient is None


def _part(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in record:
            return record[name]
    raise KeyError(f"a record has none of {', '.join(names)}")


def _typed(targets: ArrayLike) -> NDArray[Any]:
    """Return targets as int64 or float32.

    Those of a list are typed one by one: numpy would choose one type for all, and one patient's
    number beyond 63 bits would make classes of all others numbers that are none.
    """
    if not isinstance(targets, (list, tuple)):
        return _numbers(np.asarray(targets))
    each = [_numbers(np.asarray(one)) for one in targets]
    if len({(one.dtype, one.shape) for one in each}) > 1:
        raise ValueError("targets are of several types or shapes; expected one of each")
    return np.stack(each) if each else np.zeros(0, dtype=np.int64)


def _numbers(targets: NDArray[Any]) -> NDArray[Any]:
    if targets.dtype.kind not in _TYPES:
        raise ValueError(f"targets are {targets.dtype}; expected numbers: name each class by one")
    return targets.astype(_TYPES[targets.dtype.kind])
