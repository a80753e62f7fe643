"""Chest X-rays of children, normal or pneumonia (Kermany et al. 2018), grouped by real patients.

Read from `kermany_cxr_64.npz` (64 x 64 grey, with patient ids), or from the published folder
`chest_xray/{train,test}/{NORMAL,PNEUMONIA}/*.jpeg`, where the file name tells the patient.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.files import Location, column, find, label_numbers, open_npz
from clients.data.layouts import Found, walk
from clients.data.picture_files import PictureForm
from clients.data.pictures import PictureStore
from clients.data.reading_log import ReadingLog
from clients.data.records import DatasetInfo, LazyInputs, PixelStore, Records, dense

NPZ = "kermany_cxr_64.npz"
FOLDER = "chest_xray"
#: Variant of the name: the folder of pictures, even where the small arrays are beside it.
VARIANT = "folder"
_SOURCE = "https://data.mendeley.com/datasets/rscbjbr9sj/2 (reduced to 64 x 64)"
_MD5 = "5a3cc52815dbc303c3ff48e5684ca10c"
_CLASSES = ("normal", "pneumonia")


def info(shape: tuple[int, ...] = (1, 64, 64)) -> DatasetInfo:
    """Return the public facts for pictures of the given shape."""
    return DatasetInfo(
        name="chest-xray",
        title="Chest X-rays, normal or pneumonia, grouped by patient",
        task="binary",
        shape=shape,
        classes=_CLASSES,
        kind="image",
        input_range=(0.0, 1.0),
        has_patient_ids=True,
        licence="CC BY 4.0",
        source=_SOURCE,
        files=((NPZ, _MD5),),
    )


def load(where: Location) -> Dataset:
    """Return the training and the official test pictures; of the variant `folder` the large ones.

    Raises:
        DataError: another variant, or there are no such files.
    """
    if where.variant not in ("", VARIANT):
        raise DataError(
            f"chest-xray has the variant {VARIANT!r}; found {where.variant!r}",
            code="unknown-dataset",
        )
    path = find(where.data_dir, [FOLDER] if where.variant else [NPZ, FOLDER], source=_SOURCE)
    return _from_folder(path, where) if path.is_dir() else _from_arrays(path, where.log)


def _from_arrays(path: Path, log: ReadingLog) -> Dataset:
    parts = ("train", "test")
    keys = [f"{part}_{what}" for part in parts for what in ("images", "labels", "patient")]
    arrays = open_npz(path, keys)
    pixels = np.concatenate([arrays["train_images"], arrays["test_images"]])
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: images of shape {pixels.shape} and type {pixels.dtype}, expected grey bytes "
            "[n, height, width]",
            code="shape",
        )
    labels = [
        label_numbers(column(path, f"{p}_labels", arrays[f"{p}_labels"]), _CLASSES) for p in parts
    ]
    patients, _ = dense(np.concatenate([arrays[f"{p}_patient"] for p in parts]))
    everything = Records(
        inputs=LazyInputs(PixelStore(pixels, channels_last=False)),
        labels=np.concatenate(labels),
        patients=patients,
    )
    return _dataset(everything, len(labels[0]), log)


def _from_folder(root: Path, where: Location) -> Dataset:
    found: list[Found] = []
    for name in ("train", "test"):
        if not (root / name).is_dir():
            fault = f"{root / name} does not exist. Get it from {_SOURCE}"
            raise DataError(fault, code="missing-file")
        walked = walk(root / name, "class", ("NORMAL", "PNEUMONIA"), where.log)
        found += [replace(one, trained_on=name == "train") for one in walked]
    found = [
        replace(one, patient=patient) for one in found if (patient := _patient(one.file, where))
    ]
    form = PictureForm(size=where.image_size, channels=1)
    everything = Records(
        inputs=LazyInputs(PictureStore([one.file for one in found], form, where.log)),
        labels=np.asarray([one.label for one in found], dtype=np.int64),
        patients=dense([one.patient for one in found])[0],
    )
    return _dataset(everything, sum(one.trained_on for one in found), where.log)


def _dataset(everything: Records, cut: int, log: ReadingLog) -> Dataset:
    return Dataset(
        info=info(tuple(everything.inputs.shape[1:])),
        train=everything.take(slice(0, cut)),
        test=everything.take(slice(cut, None)),
        log=log,
    )


def _patient(file: Path, where: Location) -> str:
    """Return the patient that a file name tells, or nothing: then the picture is left out."""
    try:
        return patient_of(file)
    except DataError as error:
        where.log.note("no patient is told: the record is out", str(error))
        return ""


def patient_of(file: Path) -> str:
    """Return the patient that a published file name tells, within its part (train or test).

    `person99_virus_183.jpeg` is a picture of child 99 with a viral pneumonia; `IM-0115-0001.jpeg`
    and `NORMAL2-IM-0115-0001-0002.jpeg` are of the healthy children 0115 of two series.

    Raises:
        DataError: `bad-name` for a file named otherwise.
    """
    part = file.parent.parent.name
    if match := re.match(r"person(\d+)_(bacteria|virus)_", file.name):
        return f"{part}:{match[2][0].upper()}{match[1]}"
    if match := re.match(r"(NORMAL2-)?IM-(\d+)-", file.name):
        return f"{part}:N{2 if match[1] else 1}-{match[2]}"
    raise DataError(
        f"{file}: the name tells no patient; expected personN_virus_..., personN_bacteria_..., "
        "IM-N-... or NORMAL2-IM-N-...",
        code="bad-name",
    )
