"""Data sets kept as arrays in one npz file: MedMNIST, MNIST, and any file laid out like them.

The classes of a file of your own are declared in a file beside it (`clients.data.declaration`): the
labels are their numbers, from 0, or their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.array_values import values_store
from clients.data.dataset import Dataset
from clients.data.declaration import (
    Declaration,
    check_confirmed,
    declared_beside,
    read_declaration,
)
from clients.data.dialect import identifier, says_nothing
from clients.data.encoding import FEWEST, MOST_UNKNOWN
from clients.data.errors import DataError
from clients.data.files import (
    Location,
    as_texts,
    check_md5,
    find,
    label_numbers,
    npz_keys,
    open_npz,
)
from clients.data.records import ArrayStore, DatasetInfo, Ints, LazyInputs, Records, dense
from clients.data.targets import masks_of_arrays, targets_of_arrays
from clients.tasks.question import OF_CLASSES, SEGMENTATION

_MEDMNIST_SOURCE = "https://zenodo.org/records/10519652 (MedMNIST v2, npz files)"
# name -> number of classes, md5 of the official 28-pixel file (medmnist 2.1), then of variants.
MEDMNIST: dict[str, tuple[int, tuple[str, ...]]] = {
    "pathmnist": (9, ("a8b06965200029087d5bd730944a56c1",)),
    "dermamnist": (7, ("0744692d530f8e62ec473284d019b0c7",)),
    "octmnist": (4, ("c68d92d5b585d8d81f7112f81e2d0842",)),
    "pneumoniamnist": (2, ("28209eda62fecd6e6a2d98b1501bb15f",)),
    "retinamnist": (5, ("bd4c0672f1bba3e3a89f0e4e876791e4",)),
    "breastmnist": (2, ("750601b1f35ba3300ea97c75c52ff8f6", "098de56cd2d92ef2f7170e6153c02849")),
    "bloodmnist": (8, ("7053d0359d879ad8a5505303e11de1dc",)),
    "tissuemnist": (8, ("ebe78ee8b05294063de985d821c1c34b",)),
    "organamnist": (11, ("866b832ed4eeba67bfb9edee1d5544e6",)),
    "organcmnist": (11, ("0afa5834fb105f7705a7d93372119a21",)),
    "organsmnist": (11, ("e5c39f1af030238290b9557d9503af9d",)),
    "organmnist3d": (11, ()),
    "nodulemnist3d": (2, ()),
    "adrenalmnist3d": (2, ("bbd3c5a5576322bc4cdfea780653b1ce",)),
    "fracturemnist3d": (3, ()),
    "vesselmnist3d": (2, ("b41fd4f7e7e2feedddb201585ecafa1b",)),
    "synapsemnist3d": (2, ()),
}
_GRADES = ("retinamnist",)
#: Kind of a data set by the number of axes of one record.
_KINDS = {1: "table", 2: "series", 3: "image", 4: "volume"}
#: Part -> names of its images, labels, patients and hospitals.
Layout = dict[str, tuple[str, str, str | None, str | None]]
_MNIST_SOURCE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is known of a published set without a file beside it."""

    declared: Declaration
    licence: str
    source: str
    md5: str = ""


def load_medmnist(where: Location) -> Dataset:
    """Return a MedMNIST set: `{train,val,test}_{images,labels}`; test is the public holdout."""
    variant = where.variant
    if not variant:
        raise DataError(
            f"say which: medmnist:<name>, for example {', '.join(sorted(MEDMNIST))}",
            code="unknown-dataset",
        )
    count, known = MEDMNIST.get(variant, (0, ()))
    md5 = known[0] if known else ""
    path = find(where.data_dir, [f"{variant}.npz"], source=_MEDMNIST_SOURCE, md5=md5)
    if known:
        check_md5(path, known, source=_MEDMNIST_SOURCE)
    return read_parts(
        path,
        where,
        name=f"medmnist:{variant}",
        title=f"MedMNIST {variant}",
        known=Published(
            declared=Declaration(
                classes=tuple(map(str, range(count))), ordinal=variant.split("_")[0] in _GRADES
            ),
            licence="CC BY 4.0",
            source=_MEDMNIST_SOURCE,
            md5=md5,
        ),
    )


def load_mnist(where: Location) -> Dataset:
    """Return MNIST in its official order, in MedMNIST's layout or Keras' (`x_train`, `y_train`)."""
    path = find(where.data_dir, ["mnist.npz"], source=_MNIST_SOURCE)
    return read_parts(
        path,
        where,
        name="mnist",
        title="MNIST, for comparing with published private training",
        known=Published(
            declared=Declaration(classes=tuple("0123456789")),
            licence="MNIST terms",
            source=_MNIST_SOURCE,
        ),
    )


def load_npz(where: Location) -> Dataset:
    """Return the set in any npz file: `npz:<file>` in the data folder, or a full path."""
    path = named_file(where)
    return read_parts(path, where, name=f"npz:{where.variant}", title=f"arrays in {path.name}")


def named_file(where: Location) -> Path:
    """Return the npz file that is named in the settings.

    Raises:
        DataError: there is none.
    """
    variant = where.variant
    if not variant:
        raise DataError("say which: npz:<file>", code="unknown-dataset")
    named = where.named()
    return named if named.is_file() else find(where.data_dir, [variant, f"{variant}.npz"])


def parts_of(path: Path, target: str = "labels") -> Layout:
    """Return part -> names of its images, labels, patients and hospitals arrays.

    Args:
        path: of the file.
        target: the end of the name of an array of labels, or of masks.

    Raises:
        DataError: `missing-column`: there are no images to train on.
    """
    keys = npz_keys(path)
    if {"x_train", "y_train"} <= set(keys):
        found = {p: (f"x_{p}", f"y_{p}", None, None) for p in ("train", "test") if f"x_{p}" in keys}
        return dict(found)
    layout: Layout = {}
    for part in ("train", "val", "test"):
        images, labels = f"{part}_images", f"{part}_{target}"
        if images in keys:
            patients, hospitals = f"{part}_patient", f"{part}_hospital"
            layout[part] = (
                images,
                labels,
                patients if patients in keys else None,
                hospitals if hospitals in keys else None,
            )
    if "train" not in layout:
        raise DataError(
            f"{path}: no array 'train_images'; it holds {', '.join(keys)}: save it as "
            "np.savez(file, train_images=..., train_labels=...), and test_ arrays if there are any",
            code="missing-column",
        )
    return layout


def open_parts(path: Path, target: str = "labels") -> tuple[Layout, dict[str, NDArray[Any]]]:
    """Return the names of each part's arrays, and all arrays that they name."""
    layout = parts_of(path, target)
    named = [key for part in layout.values() for key in part if key is not None]
    return layout, open_npz(path, named)


def read_parts(
    path: Path, where: Location, *, name: str, title: str, known: Published | None = None
) -> Dataset:
    """Return the set in an npz file of named parts.

    Training rows are those of `train` and `val`; `test`, if there is one, is the public holdout.
    What is not `known` is declared beside the file; where it is not, and the records are no
    hospital's own, classes are counted from the labels.
    """
    masks = "" if known else _declared_masks(path, where)
    layout, arrays = open_parts(path, masks or "labels")
    raw = [_labels(path, part[:2], arrays, masks=bool(masks)) for part in layout.values()]
    declared = known.declared if known else _declared_beside(path, where, raw)
    images = np.concatenate([arrays[part[0]] for part in layout.values()])
    store = values_store(path, images, declared, where)
    labels = _targets(path, raw, declared, where, store.shape[2:])
    numbers, names = identifiers_of(path, layout, arrays, 2)
    homes, hospital_names = identifiers_of(path, layout, arrays, 3)
    everything = Records(
        inputs=LazyInputs(store),
        labels=labels,
        patients=np.arange(len(labels), dtype=np.int64) if numbers is None else numbers,
        hospitals=homes,
    )
    cut = len(labels) - (len(raw[-1]) if "test" in layout else 0)
    return Dataset(
        info=DatasetInfo(
            name=name,
            title=title,
            **declared.asked(),
            shape=store.shape[1:],
            kind=_KINDS.get(len(store.shape) - 1, "table"),
            input_range=(-1.0, 1.0) if isinstance(store, ArrayStore) else (0.0, 1.0),
            # Of the file's layout: no names are met where there are no records.
            has_patient_ids=numbers is not None,
            has_hospital_ids=homes is not None,
            licence=known.licence if known else "",
            source=known.source if known else "",
            files=((path.name, known.md5 if known else ""),),
            declared={} if known else declared.public(),
        ),
        train=_of_somebody(path, everything.take(slice(0, cut)), names, where),
        test=_of_somebody(path, everything.take(slice(cut, None)), names, where)
        if "test" in layout
        else None,
        hospital_names=hospital_names,
        patient_names=names,
        log=where.log,
    )


def _declared_masks(path: Path, where: Location) -> str:
    """Return the end of the name of arrays of masks, where any are declared."""
    file = where.declared_in(path.with_suffix(".toml"))
    return read_declaration(file).pictures.masks if file.is_file() else ""


def _labels(
    path: Path, names: tuple[str, str], arrays: dict[str, NDArray[Any]], *, masks: bool = False
) -> NDArray[Any]:
    """Return the labels of a part, as they stand there: one for each of its images."""
    images, labels = (arrays[name] for name in names)
    found = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if found.ndim > 2 and not masks:
        raise DataError(
            f"{path}: {names[1]} has shape {labels.shape}: each image has one label; of masks "
            'declare [pictures] masks = "masks" and save them as train_masks',
            code="shape",
        )
    if len(found) != len(images):
        raise DataError(
            f"{path}: {len(images)} images in {names[0]} and {len(found)} labels in {names[1]}",
            code="shape",
        )
    return found


def _declared_beside(path: Path, where: Location, labels: list[NDArray[Any]]) -> Declaration:
    """Return what is declared beside a file of arrays, or the classes that its labels show."""
    file = where.declared_in(path.with_suffix(".toml"))
    found = () if file.is_file() else class_names(path, labels)
    declared = declared_beside(file, required=where.declared, found=found)
    check_confirmed(declared, file, unconfirmed=where.unconfirmed)
    return declared


def class_names(path: Path, parts: list[NDArray[Any]]) -> tuple[str, ...]:
    """Return the classes that labels seem to have: the names or whole numbers that are met."""
    if any(part.ndim == 2 for part in parts):
        return tuple(str(one) for one in range(parts[0].shape[1]))
    labels = np.concatenate(parts)
    if labels.dtype.kind not in "biuf":
        return tuple(str(one) for one in np.unique(as_texts(labels)))
    if not np.array_equal(labels, np.rint(labels)):
        raise DataError(
            f"{path}: labels are {labels.dtype} such as {labels[labels != np.rint(labels)][0]:g}, "
            "expected whole numbers or names: a measurement is no class; declare what it can "
            "be, as target-range = [lowest, highest], or cut it into classes",
            code="labels",
        )
    return tuple(str(one) for one in np.unique(labels.astype(np.int64)))


def _targets(
    path: Path,
    parts: list[NDArray[Any]],
    declared: Declaration,
    where: Location,
    space: tuple[int, ...],
) -> NDArray[Any]:
    """Return the targets of all parts; -1 is no class."""
    if declared.task == SEGMENTATION:
        return masks_of_arrays(path, parts, declared, space)
    if declared.task in OF_CLASSES:
        return _class_numbers(path, parts, declared.classes, where)
    return targets_of_arrays(path, parts, declared)


def _class_numbers(
    path: Path, parts: list[NDArray[Any]], classes: tuple[str, ...], where: Location
) -> NDArray[np.int64]:
    """Return the class of each image, -1 for what is none.

    Raises:
        DataError: `labels`: their form is another; or, in records that are no hospital's own, a
            tenth of them mean no class.
    """
    if wrong := [part.shape for part in parts if part.ndim == 2 and part.shape[1] != len(classes)]:
        raise DataError(
            f"{path}: labels of shape {wrong[0]}, but {len(classes)} classes: give each image one "
            "label, or a column for each class",
            code="shape",
        )
    labels = np.concatenate([_one_hot(part) if part.ndim == 2 else part for part in parts])
    numbers = label_numbers(labels, classes)
    odd = np.flatnonzero(numbers < 0)
    if len(odd) >= FEWEST and len(odd) > MOST_UNKNOWN * len(numbers) and not where.declared:
        several = any(part.ndim == 2 for part in parts)
        found = "several classes, or none" if several else repr(labels[odd[0]].item())
        raise DataError(
            f"{path}: labels row {odd[0]} is {found}, and {len(odd)} of {len(labels)} are none of "
            f"the classes {', '.join(classes)}: declare the classes that labels have, as in "
            'classes = [1, 2]; of labels of which several can hold, declare labels = ["effusion", '
            '"mass"], a column each',
            code="labels",
        )
    return numbers


def _one_hot(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of the one column that is not zero, -1 where there is no such one."""
    filled = (rows != 0) & ~(rows != rows)
    return np.where(filled.sum(axis=1) == 1, filled.argmax(axis=1), -1).astype(np.int64)


def identifiers_of(
    path: Path, layout: Layout, arrays: dict[str, NDArray[Any]], place: int
) -> tuple[Ints | None, tuple[str, ...]]:
    """Number the identifiers of all parts, patients' (2) or hospitals' (3); None where none are.

    Raises:
        DataError: some parts have it and others do not, so that it would be ignored.
    """
    names = {part: keys[place] for part, keys in layout.items()}
    given = [name for name in names.values() if name is not None]
    absent = [part for part, name in names.items() if name is None]
    if given and absent:
        what = given[0].rpartition("_")[2]
        raise DataError(
            f"{path}: there is an array {given[0]}, but no {absent[0]}_{what}: add it, or leave "
            "out both",
            code="missing-column",
        )
    if not given:
        return None, ()
    texts = [one for name in given for one in as_texts(arrays[name].reshape(-1)).tolist()]
    return dense([identifier(one) for one in texts])


def _of_somebody(path: Path, part: Records, names: tuple[str, ...], where: Location) -> Records:
    """Return the records whose patient is named, where patients are.

    Who has no identifier would else be one patient with all others who have none, whose records'
    mean is clipped: one of them could then move a sum by up to 2 C.
    """
    nobody = [number for number, name in enumerate(names) if says_nothing(name)]
    out = np.isin(part.patients, nobody)
    if not out.any():
        return part
    name = names[part.patients[out.argmax()]]
    where.log.note(
        "no patient is named: the record is out",
        f"{path}: patient {name!r}, expected an identifier",
        count=int(out.sum()),
    )
    return part.take(np.flatnonzero(~out))
