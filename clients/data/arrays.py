"""Data sets kept as arrays in one npz file: MedMNIST, MNIST, and any file laid out like them.

The classes of a file of your own are declared in a file beside it (`clients.data.declaration`): the
labels are their numbers, from 0, or their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.declaration import declared_beside
from clients.data.errors import DataError
from clients.data.files import (
    Location,
    check_md5,
    column,
    find,
    label_numbers,
    npz_keys,
    open_npz,
)
from clients.data.reading_log import ReadingLog
from clients.data.records import (
    ArrayStore,
    Dataset,
    DatasetInfo,
    LazyInputs,
    PixelStore,
    Records,
    Store,
    dense,
)

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
_MNIST_SOURCE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


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
        classes=tuple(str(k) for k in range(count)),
        ordinal=variant.split("_")[0] in _GRADES,
        licence="CC BY 4.0",
        source=_MEDMNIST_SOURCE,
        md5=md5,
    )


def load_mnist(where: Location) -> Dataset:
    """Return MNIST in its official order, in MedMNIST's layout or Keras' (`x_train`, `y_train`)."""
    path = find(where.data_dir, ["mnist.npz"], source=_MNIST_SOURCE)
    return read_parts(
        path,
        where,
        name="mnist",
        title="MNIST, for comparing with published private training",
        classes=tuple("0123456789"),
        licence="MNIST terms",
        source=_MNIST_SOURCE,
    )


def load_npz(where: Location) -> Dataset:
    """Return the set in any npz file: `npz:<file>` in the data folder, or a full path."""
    variant = where.variant
    if not variant:
        raise DataError("say which: npz:<file>", code="unknown-dataset")
    named = Path(variant).expanduser()
    path = named if named.is_file() else find(where.data_dir, [variant, f"{variant}.npz"])
    return read_parts(path, where, name=f"npz:{variant}", title=f"arrays in {path.name}")


def _parts(path: Path) -> dict[str, tuple[str, str, str | None, str | None]]:
    """Return part -> names of its images, labels, patients and hospitals arrays."""
    keys = npz_keys(path)
    if {"x_train", "y_train"} <= set(keys):
        found = {p: (f"x_{p}", f"y_{p}", None, None) for p in ("train", "test") if f"x_{p}" in keys}
        return dict(found)
    layout: dict[str, tuple[str, str, str | None, str | None]] = {}
    for part in ("train", "val", "test"):
        images, labels = f"{part}_images", f"{part}_labels"
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
            f"{path}: no array 'train_images'; it holds {', '.join(keys)}", code="missing-column"
        )
    return layout


def read_parts(
    path: Path,
    where: Location,
    *,
    name: str,
    title: str,
    classes: tuple[str, ...] = (),
    ordinal: bool = False,
    licence: str = "",
    source: str = "",
    md5: str = "",
) -> Dataset:
    """Return the set in an npz file of named parts.

    Training rows are those of `train` and `val`; `test`, if there is one, is the public holdout.
    Classes not given are those declared beside the file; where neither is so, and the records are
    no hospital's own, they are counted from the labels.
    """
    layout = _parts(path)
    arrays = open_npz(path, [key for part in layout.values() for key in part if key is not None])
    store = picture_store(path, np.concatenate([arrays[p[0]] for p in layout.values()]), where)
    raw = [_labels(path, part[:2], arrays) for part in layout.values()]
    classes = classes or _declared_beside(path, where, raw)
    labels = np.concatenate([label_numbers(one, classes) for one in raw])
    patients = _identifiers(layout, arrays, 2)
    numbers = np.arange(len(labels), dtype=np.int64) if patients is None else dense(patients)[0]
    hospitals = _identifiers(layout, arrays, 3)
    homes, hospital_names = (None, ()) if hospitals is None else dense(hospitals)
    everything = Records(inputs=LazyInputs(store), labels=labels, patients=numbers, hospitals=homes)
    cut = len(labels) - (len(raw[-1]) if "test" in layout else 0)
    return Dataset(
        info=DatasetInfo(
            name=name,
            title=title,
            task="binary" if len(classes) == 2 else "ordinal" if ordinal else "multiclass",
            shape=store.shape[1:],
            classes=classes,
            kind=_KINDS.get(len(store.shape) - 1, "table"),
            input_range=(0.0, 1.0) if isinstance(store, PixelStore) else (-1.0, 1.0),
            has_patient_ids=patients is not None,
            has_hospital_ids=hospitals is not None,
            licence=licence,
            source=source,
            files=((path.name, md5),),
        ),
        train=everything.take(slice(0, cut)),
        test=everything.take(slice(cut, None)) if cut < len(labels) else None,
        hospital_names=hospital_names,
        log=where.log,
    )


def _labels(path: Path, names: tuple[str, str], arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the labels of a part, as they stand there: one for each of its images."""
    images, labels = (arrays[name] for name in names)
    found = column(path, names[1], labels)
    if len(found) != len(images):
        raise DataError(
            f"{path}: {len(images)} images in {names[0]} and {len(found)} labels in {names[1]}",
            code="shape",
        )
    return found


def _declared_beside(path: Path, where: Location, labels: list[NDArray[Any]]) -> tuple[str, ...]:
    file = where.declared_in(path.with_suffix(".toml"))
    return declared_beside(file, required=where.declared, found=_classes_of(labels)).classes


def _classes_of(parts: list[NDArray[Any]]) -> tuple[str, ...]:
    """Return the classes that labels seem to have: names, or numbers up to the highest."""
    labels = np.concatenate(parts)
    if labels.dtype.kind not in "biuf":
        return tuple(str(one) for one in np.unique(labels.astype(str)))
    if not np.array_equal(labels, np.rint(labels)):
        raise DataError(
            f"labels hold {labels.dtype}, expected whole numbers or names", code="labels"
        )
    highest = int(labels.max()) if labels.size else 0
    return tuple(str(k) for k in range(max(highest + 1, 2)))


def _identifiers(
    layout: dict[str, tuple[str, str, str | None, str | None]],
    arrays: dict[str, NDArray[Any]],
    place: int,
) -> NDArray[Any] | None:
    """Join an identifier column over the parts; None where there is none.

    Raises:
        DataError: some parts have it and others do not, so that it would be ignored.
    """
    names = {part: keys[place] for part, keys in layout.items()}
    given = [name for name in names.values() if name is not None]
    absent = [part for part, name in names.items() if name is None]
    if given and absent:
        what = given[0].rpartition("_")[2]
        raise DataError(
            f"there is an array {given[0]}, but no {absent[0]}_{what}: add it, or leave out both",
            code="missing-column",
        )
    if not given:
        return None
    return np.concatenate([arrays[name].reshape(-1).astype(str) for name in given])


def picture_store(path: Path, values: NDArray[Any], where: Location) -> Store:
    """Return bytes as pictures or volumes, and floats as they are, in [-1, 1].

    What is no number becomes the middle, 0. What lies outside is cut in a hospital's own records;
    in others it is a mistake that is better said.

    Bytes [n, h, w] are grey, [n, h, w, 1|3|4] coloured, [n, d, h, w] volumes.
    """
    if values.dtype == np.uint8:
        if values.ndim not in (3, 4, 5):
            raise DataError(
                f"{path}: images of shape {values.shape}, expected [n, h, w] with or without "
                "channels, or [n, d, h, w]",
                code="shape",
            )
        coloured = values.ndim == 5 or (values.ndim == 4 and values.shape[-1] in (1, 3, 4))
        return PixelStore(values, channels_last=coloured)
    if values.dtype.kind != "f":
        raise DataError(f"{path}: images of type {values.dtype}, expected uint8 or float")
    flat = values.reshape(len(values), -1)
    _note_rows(path, np.isnan(flat), "a value that is no number: a missing value", where.log)
    outside = np.abs(np.nan_to_num(flat, posinf=2, neginf=-2)) > 1
    rows = _note_rows(path, outside, "a value outside [-1, 1]: cut to it", where.log)
    if rows and not where.declared:
        raise DataError(
            f"{path}: images row {rows[0]} holds a value outside [-1, 1]; scale by public "
            "constants first",
            code="bad-value",
        )
    return ArrayStore(np.clip(np.nan_to_num(values), -1, 1).astype(np.float32, copy=False))


def _note_rows(path: Path, odd: NDArray[np.bool_], kind: str, log: ReadingLog) -> list[int]:
    """Note the rows of which something is odd, and return them."""
    rows: list[int] = np.flatnonzero(odd.any(axis=1)).tolist()
    if rows:
        log.note(kind, f"{path}: images row {rows[0]}", count=len(rows))
    return rows
