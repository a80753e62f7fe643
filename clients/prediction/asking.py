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
from clients.prediction.asked_table_folder import ask_tables
from clients.prediction.asked_tables import ask_table

#: What is given to a model of each kind of data.
_EXPECTED = {
    "table": "a table (CSV, Excel or Parquet), or a folder of them",
    "image": "a folder of pictures, a picture, or arrays (npz)",
    "volume": "a folder of volumes (NIfTI), a volume, or arrays (npz)",
    "series": "arrays of series (npz)",
}


def ask(path: Path, info: DatasetInfo, log: RowNotes, declaration: Path | None = None) -> Asked:
    """Return the records that a path holds, in the form that the model was trained on.

    Args:
        path: a table, a folder of tables or of pictures, a picture, or an npz file.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.
        declaration: file that says how they are written or lie; None for the one where a training
            looks for it, if there is one.

    Raises:
        DataError: `missing-file`; or it holds something else than the model knows.
    """
    if declaration is not None and not declaration.is_file():
        raise DataError(
            f"{declaration} does not exist; expected a declaration in TOML", code="missing-file"
        )
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected {_EXPECTED[info.kind]} of records as in {info.name}",
            code="missing-file",
        )
    if path.suffix.lower() == ".npz":
        return ask_arrays(path, info, log, declaration)
    if path.is_dir() and info.kind == "table":
        return ask_tables(path, info, log, declaration)
    if path.is_dir() or is_picture(path):
        return ask_pictures(path, info, log, declaration)
    if info.kind == "table":
        return ask_table(path, info, log, declaration)
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
        labels=np.asarray(records.labels),
        patients=records.patients,
    )
