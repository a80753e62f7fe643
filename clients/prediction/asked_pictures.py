"""Pictures and volumes to predict: a file, or a folder of them with whatever folders are in it.

A picture in a folder that is named after a class has that class as its label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.data.errors import DataError
from clients.data.picture_files import SUFFIXES, PictureForm, is_picture
from clients.data.pictures import PictureStore
from clients.data.public_facts import declaration_of
from clients.data.records import SPATIAL_KINDS, DatasetInfo, LazyInputs
from clients.prediction.asked import UNTOLD, Asked, RowNotes


def ask_pictures(path: Path, info: DatasetInfo, log: RowNotes) -> Asked:
    """Return a picture, or all those of a folder, by name.

    Args:
        path: of the file or folder.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.

    Raises:
        DataError: there is no picture, or the model is not for pictures.
    """
    if info.kind not in SPATIAL_KINDS or len(set(info.shape[1:])) != 1:
        raise DataError(
            f"{path} holds pictures; the model was trained on {info.kind} records of {info.shape}: "
            "give arrays in an npz file",
            code="shape",
        )
    root = path if path.is_dir() else path.parent
    files = _files(path)
    store = PictureStore(files, picture_form(info), log)
    rows, notes = [], []
    log.of_record()
    for row in range(len(files)):
        good = bool(np.isfinite(store.read(np.asarray([row]))).all())
        said = log.of_record()
        if good:
            rows.append(row)
        said = said.removeprefix(f"{files[row]}: ").partition(": not a readable")[0]
        notes.append("" if good else f"no readable picture: no prediction ({said})")
    named = {one.casefold(): number for number, one in enumerate(info.classes)}
    labels = [named.get(file.parent.name.casefold(), UNTOLD) for file in files]
    known = np.asarray(rows, dtype=np.int64)
    return Asked(
        keys={"file": [file.relative_to(root).as_posix() for file in files]},
        inputs=LazyInputs(store).view(known),
        rows=known,
        notes=notes,
        labels=np.asarray(labels, dtype=np.int64) if max(labels) > UNTOLD else None,
        patients=np.arange(len(files), dtype=np.int64),
    )


def picture_form(info: DatasetInfo) -> PictureForm:
    """Return what the pictures that a model was trained on were brought to."""
    declared = declaration_of(info)
    return PictureForm(
        size=info.shape[1],
        channels=info.shape[0],
        volumes=info.kind == "volume",
        range=declared.ranges.get("values"),
        spacing=declared.pictures.spacing,
        deep=True,
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    inside = sorted(path.rglob("*"))
    hidden = {one for one in inside if any(p.startswith(".") for p in one.relative_to(path).parts)}
    files = [one for one in inside if is_picture(one) and one.is_file() and one not in hidden]
    if not files:
        raise DataError(
            f"{path}: no picture in it; expected files that end in {', '.join(SUFFIXES)}",
            code="missing-file",
        )
    return files
