"""APTOS 2019: fundus photographs graded for diabetic retinopathy (`train.csv`, `train_images/`)."""

from __future__ import annotations

import numpy as np

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.picture_files import PictureForm
from clients.data.pictures import PictureStore
from clients.data.records import DatasetInfo, LazyInputs, Records
from clients.data.rows import read_rows

TITLE = "APTOS 2019: fundus photographs, five grades of diabetic retinopathy"
_SOURCE = "https://www.kaggle.com/competitions/aptos2019-blindness-detection/data"
#: What lists the photographs, its columns, and the folder that they are in.
TABLE, COLUMNS, PHOTOGRAPHS = "train.csv", ("id_code", "diagnosis"), "train_images"
_GRADES = ("none", "mild", "moderate", "severe", "proliferative")


def load(where: Location) -> Dataset:
    """Return the graded photographs; patients are not published, so each is its own."""
    table = find(where.data_dir, [f"aptos/{TABLE}", TABLE], source=_SOURCE)
    folder = table.parent / PHOTOGRAPHS
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist. Get it from {_SOURCE}", code="missing-file")
    files, grades = [], []
    for place, row in read_rows(table, COLUMNS, where.log).rows:
        if row["diagnosis"] not in ("0", "1", "2", "3", "4"):
            where.log.note(
                "no declared class: the record is out",
                f"{place}, column diagnosis: {row['diagnosis']!r}, expected 0 to 4",
            )
            continue
        files.append(folder / f"{row['id_code']}.png")
        grades.append(int(row["diagnosis"]))
    size = where.image_size
    return Dataset(
        info=DatasetInfo(
            name="aptos",
            title=TITLE,
            task="ordinal",
            shape=(3, size, size),
            classes=_GRADES,
            kind="image",
            input_range=(0.0, 1.0),
            licence="competition rules (Kaggle)",
            source=_SOURCE,
            files=(("train.csv", ""), ("train_images/", "")),
        ),
        train=Records(
            inputs=LazyInputs(PictureStore(files, PictureForm(size=size, channels=3), where.log)),
            labels=np.asarray(grades, dtype=np.int64),
            patients=np.arange(len(files), dtype=np.int64),
        ),
        log=where.log,
    )
