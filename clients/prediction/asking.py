"""Reading what a model is asked about: by what the path holds and what the model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.data.errors import DataError
from clients.data.picture_files import is_picture
from clients.data.records import DatasetInfo, Records, readable
from clients.prediction.asked import Asked, RowNotes
from clients.prediction.asked_arrays import ask_arrays
from clients.prediction.asked_pictures import ask_pictures
from clients.prediction.asked_tables import ask_table

#: What is given to a model of each kind of data.
_EXPECTED = {
    "table": "a table (CSV, Excel or Parquet)",
    "image": "a folder of pictures, a picture, or arrays (npz)",
    "volume": "a folder of volumes (NIfTI), a volume, or arrays (npz)",
    "series": "arrays of series (npz)",
}


def ask(path: Path, info: DatasetInfo, log: RowNotes) -> Asked:
    """Return the records that a path holds, in the form that the model was trained on.

    Args:
        path: a table, a folder of pictures, a picture, or an npz file.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.

    Raises:
        DataError: `missing-file`; or it holds something else than the model knows.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected {_EXPECTED[info.kind]} of records as in {info.name}",
            code="missing-file",
        )
    if path.suffix.lower() == ".npz":
        return ask_arrays(path, info, log)
    if path.is_dir() or is_picture(path):
        return ask_pictures(path, info, log)
    if info.kind == "table":
        return ask_table(path, info, log)
    raise DataError(
        f"{path} is no {info.kind} data: the model was trained on {info.name}, {info.kind} records "
        f"of shape {info.shape}; expected {_EXPECTED[info.kind]}",
        code="shape",
    )


def ask_records(records: Records) -> Asked:
    """Return a data set's own records, in order; those that cannot be read keep their place."""
    numbered = Records(
        inputs=records.inputs,
        labels=records.labels,
        patients=np.arange(len(records), dtype=np.int64),
    )
    good = readable(numbered)
    notes = ["not readable: no prediction"] * len(records)
    for row in good.patients.tolist():
        notes[row] = ""
    return Asked(
        keys={"row": [str(row) for row in range(len(records))]},
        inputs=good.inputs,
        rows=good.patients,
        notes=notes,
        labels=records.labels,
        patients=records.patients,
    )
