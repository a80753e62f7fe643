"""Folders of tables to predict, one file for each hospital, as `csv:visits/*.csv` is trained on.

`dataset.toml` in the folder, or the declaration that is named, says how all of them are written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.data.declaration import FOLDER_FILE
from clients.data.errors import DataError
from clients.data.records import DatasetInfo
from clients.data.rows import EXCEL, PARQUET
from clients.prediction.asked import UNTOLD, Asked, RowNotes, patient_numbers
from clients.prediction.asked_tables import HEADLESS, ask_table

_TABLES = (".csv", ".tsv", *EXCEL, *PARQUET)
#: What UCI's files of heart disease that have these columns are called; others lie beside them.
_HEADLESS = "processed."


def ask_tables(
    folder: Path, info: DatasetInfo, log: RowNotes, declaration: Path | None = None
) -> Asked:
    """Return the rows of all tables in a folder, file by file in the order of their names.

    Args:
        folder: of the files.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.
        declaration: file that says how they are written; None for the folder's own.

    Raises:
        DataError: there is no table in it, or one cannot be read.
    """
    files = sorted(one for one in folder.iterdir() if _is_table(one))
    if not files:
        raise DataError(
            f"{folder}: no table in it; expected files that end in {', '.join(_TABLES)}",
            code="missing-file",
        )
    if declaration is None and (folder / FOLDER_FILE).is_file():
        declaration = folder / FOLDER_FILE
    parts = [ask_table(one, info, log, declaration) for one in files]
    lengths = [len(part) for part in parts]
    starts = np.cumsum([0, *lengths[:-1]])
    names = [name for part in parts for name in (part.names or [""] * len(part))]
    keys = dict.fromkeys(key for part in parts for key in part.keys)
    return Asked(
        keys={
            "file": [
                one.name for one, count in zip(files, lengths, strict=True) for _ in range(count)
            ],
            **{
                key: [v for part in parts for v in part.keys.get(key, [""] * len(part))]
                for key in keys
            },
        },
        inputs=np.concatenate([np.asarray(part.inputs, dtype=np.float32) for part in parts]),
        rows=np.concatenate([part.rows + at for part, at in zip(parts, starts, strict=True)]),
        notes=[note for part in parts for note in part.notes],
        labels=_labels(parts),
        # A patient of one name is one patient, in whatever file.
        patients=patient_numbers(names),
        names=names,
        columns=[
            f"{one.name}: {c}" for one, part in zip(files, parts, strict=True) for c in part.columns
        ],
        blind=[line for part in parts for line in part.blind],
    )


def _is_table(file: Path) -> bool:
    headless = file.suffix == HEADLESS and file.name.startswith(_HEADLESS)
    known = headless or file.suffix.lower() in _TABLES
    return known and file.is_file() and not file.name.startswith(".")


def _labels(parts: list[Asked]) -> np.ndarray | None:
    if all(part.labels is None for part in parts):
        return None
    return np.concatenate(
        [
            np.full(len(part), UNTOLD, dtype=np.int64) if part.labels is None else part.labels
            for part in parts
        ]
    )
