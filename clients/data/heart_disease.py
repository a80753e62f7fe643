"""UCI heart disease: patients of four real hospitals, with the gaps that real tables have.

A missing value ("?" or nothing, or the 0 that some hospitals wrote for an unmeasured cholesterol or
blood pressure) becomes the middle of its public range, and a column of its own says that it was
missing. Ranges are clinical common knowledge, written down here; nothing is fitted to the rows.
The variant `heart-disease:complete` keeps only the rows and features of FLamby's fed_heart_disease
(du Terrail et al. 2022), for comparing with numbers published on it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.files import Location, find, read_bounded
from clients.data.reading_log import ReadingLog
from clients.data.records import DatasetInfo, Records

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
FOLDER = "heart_disease"
_SOURCE = "https://archive.ics.uci.edu/dataset/45/heart+disease"
_MD5 = {
    "cleveland": "2d91a8ff69cfd9616aa47b59d6f843db",
    "hungarian": "22e96bee155b5973568101c93b3705f6",
    "switzerland": "9a87f7577310b3917730d06ba9349e20",
    "va": "4249d03ca7711e84f4444768c9426170",
}
COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"),
    *("slope", "ca", "thal", "num"),
)
# Public ranges of measurements: years, mmHg, mg/dl, beats a minute, mm, vessels.
_RANGES = {
    "age": (20.0, 80.0),
    "sex": (0.0, 1.0),
    "trestbps": (80.0, 200.0),
    "chol": (100.0, 400.0),
    "fbs": (0.0, 1.0),
    "thalach": (60.0, 210.0),
    "exang": (0.0, 1.0),
    "oldpeak": (-2.0, 5.0),
    "ca": (0.0, 3.0),
}
_KINDS = {
    "cp": (1.0, 2.0, 3.0, 4.0),
    "restecg": (0.0, 1.0, 2.0),
    "slope": (1.0, 2.0, 3.0),
    "thal": (3.0, 6.0, 7.0),
}
_ZERO_IS_MISSING = ("trestbps", "chol")
_ALWAYS_ASKED = ("age", "sex", "cp", "restecg")  # missing in at most two rows: no column of its own
COMPLETE = COLUMNS[:10]  # what FLamby keeps


def _read(path: Path, log: ReadingLog) -> NDArray[np.float64]:
    """Return a file's rows, NaN where nothing was measured or what was cannot be read."""
    rows: list[list[float]] = []
    lines = read_bounded(path).decode("latin-1").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}: row {number}"
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(COLUMNS):
            log.note(
                "another number of values: the record is out",
                f"{place} has {len(cells)} values, expected {len(COLUMNS)}",
            )
            continue
        row = [_value(f"{place}, column {c}", x, log) for c, x in zip(COLUMNS, cells, strict=True)]
        if not 0 <= row[-1] <= 4:
            log.note(
                "no declared class: the record is out",
                f"{place}, column num: {cells[-1]!r}, expected 0 to 4",
            )
            continue
        rows.append(row)
    return np.asarray(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def _value(place: str, cell: str, log: ReadingLog) -> float:
    """Return a number, NaN for a missing one or what is none."""
    if cell in ("?", ""):
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        log.note("cannot be read: a missing value", f"{place}: {cell!r}, expected a number or ?")
        return float("nan")


def encode(table: NDArray[np.float64], columns: tuple[str, ...]) -> NDArray[np.float32]:
    """Scale measurements and spread kinds over columns, all in [-1, 1], by public constants.

    Args:
        table: [n, 14] as in the files, NaN for missing.
        columns: which measurements to use; a column of missingness follows for each that needs one.
    """
    parts: list[NDArray[np.float64]] = []
    missing: list[NDArray[np.float64]] = []
    for column in columns:
        values = table[:, COLUMNS.index(column)].copy()
        if column in _ZERO_IS_MISSING:
            values[values == 0] = np.nan
        if column in _KINDS:
            parts.extend(np.where(values == kind, 1.0, -1.0) for kind in _KINDS[column])
            for part in parts[-len(_KINDS[column]) :]:
                part[np.isnan(values)] = 0.0
        else:
            low, high = _RANGES[column]
            parts.append(np.nan_to_num(np.clip(2 * (values - low) / (high - low) - 1, -1, 1)))
        if column not in _ALWAYS_ASKED:
            missing.append(np.isnan(values).astype(np.float64))
    return np.stack(parts + missing, axis=1).astype(np.float32)


def input_names(columns: tuple[str, ...]) -> list[str]:
    """Return a name for each input that `encode` makes of these columns."""
    names: list[str] = []
    for column in columns:
        if column in _KINDS:
            names.extend(f"{column} = {kind:g}" for kind in _KINDS[column])
        else:
            names.append(column)
    return names + [f"{column} is missing" for column in columns if column not in _ALWAYS_ASKED]


def load(where: Location) -> Dataset:
    """Return the patients of the four hospitals, one row each."""
    variant = where.variant
    if variant not in ("", "complete"):
        raise DataError(
            f"unknown variant heart-disease:{variant}; known: complete", code="unknown-dataset"
        )
    tables, hospitals = [], []
    for number, hospital in enumerate(HOSPITALS):
        file = f"processed.{hospital}.data"
        path = find(where.data_dir, [f"{FOLDER}/{file}", file], source=_SOURCE, md5=_MD5[hospital])
        table = _read(path, where.log)
        if variant == "complete":
            table = table[~np.isnan(table[:, : len(COMPLETE)]).any(axis=1)]
        tables.append(table)
        hospitals.append(np.full(len(table), number, dtype=np.int64))
    everything = np.concatenate(tables)
    inputs = encode(everything, COMPLETE if variant == "complete" else COLUMNS[:-1])
    return Dataset(
        info=_info(variant, inputs.shape[1]),
        train=Records(
            inputs=inputs,
            labels=(everything[:, -1] > 0).astype(np.int64),
            patients=np.arange(len(everything), dtype=np.int64),
            hospitals=np.concatenate(hospitals),
        ),
        hospital_names=HOSPITALS,
        log=where.log,
    )


def _info(variant: str, width: int) -> DatasetInfo:
    return DatasetInfo(
        name="heart-disease" + (f":{variant}" if variant else ""),
        title="UCI heart disease, patients of four real hospitals",
        task="binary",
        shape=(width,),
        classes=("healthy", "disease"),
        has_hospital_ids=True,
        one_record_each=True,
        licence="CC BY 4.0",
        source=_SOURCE,
        files=tuple((f"{FOLDER}/processed.{one}.data", _MD5[one]) for one in HOSPITALS),
    )
