"""APTOS 2019: fundus photographs graded for diabetic retinopathy (`train.csv`, `train_images/`)."""

from __future__ import annotations

import csv

import numpy as np

from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.pictures import PictureStore
from clients.data.records import Dataset, DatasetInfo, LazyInputs, Records

TITLE = "APTOS 2019: fundus photographs, five grades of diabetic retinopathy"
_SOURCE = "https://www.kaggle.com/competitions/aptos2019-blindness-detection/data"
_GRADES = ("none", "mild", "moderate", "severe", "proliferative")


def load(where: Location) -> Dataset:
    """Return the graded photographs; patients are not published, so each is its own."""
    table = find(where.data_dir, ["aptos/train.csv", "train.csv"], source=_SOURCE)
    folder = table.parent / "train_images"
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist. Get it from {_SOURCE}", code="missing-file")
    files, grades = [], []
    with table.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        for column in ("id_code", "diagnosis"):
            if column not in (reader.fieldnames or []):
                raise DataError(
                    f"{table}: no column {column!r}; it has {', '.join(reader.fieldnames or [])}",
                    code="missing-column",
                )
        for number, row in enumerate(reader, start=2):
            grade = (row["diagnosis"] or "").strip()
            if grade not in ("0", "1", "2", "3", "4"):
                raise DataError(
                    f"{table}: row {number}, column diagnosis: {grade!r}, expected 0 to 4",
                    code="label-range",
                )
            file = folder / f"{row['id_code']}.png"
            if not file.is_file():
                raise DataError(
                    f"{table}: row {number}: {file} does not exist", code="missing-file"
                )
            files.append(file)
            grades.append(int(grade))
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
            inputs=LazyInputs(PictureStore(files, size, 3)),
            labels=np.asarray(grades, dtype=np.int64),
            patients=np.arange(len(files), dtype=np.int64),
        ),
    )
