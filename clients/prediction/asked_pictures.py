"""Pictures and volumes to predict: a file, or a folder of them, laid out as a training reads it.

`dataset.toml` in the folder, or the declaration that is named, says what its folders are, or which
table lists its pictures. Where nothing says so, a picture in a folder that is named after a class
has that class as its label. `patients.csv` says whose a picture is. Slices of one DICOM series are
one volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data import aptos
from clients.data.declaration import FOLDER_FILE, Declaration, read_declaration
from clients.data.declared_parts import Pictures
from clients.data.dialect import identifier
from clients.data.encoding import Encoder
from clients.data.errors import DataError
from clients.data.layouts import Found, pictures_in, walk
from clients.data.manifest import owned, picture_of
from clients.data.masks import MaskStore, paired, read_masks
from clients.data.picture_files import SUFFIXES, PictureForm, Source
from clients.data.pictures import PictureStore, place_in_series
from clients.data.public_facts import declaration_of
from clients.data.reading_log import ReadingLog
from clients.data.records import SPATIAL_KINDS, DatasetInfo, LazyInputs
from clients.data.rows import Row, read_rows
from clients.data.targets import no_target, target_array
from clients.prediction.asked import UNTOLD, Asked, RowNotes, patient_numbers
from clients.prediction.asked_tables import RowsLeftOut, check_same
from clients.tasks.question import OF_CLASSES, SEGMENTATION

_NONE = Path()
#: Published folders whose table nobody declares: how it lists pictures, and where these are.
_PUBLISHED = {
    "aptos": (
        Declaration(
            target=aptos.COLUMNS[1],
            # Grades are numbers there, in the order of the classes.
            classes=("0", "1", "2", "3", "4"),
            pictures=Pictures(manifest=aptos.TABLE, file=aptos.COLUMNS[0]),
        ),
        aptos.PHOTOGRAPHS,
    )
}


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A picture or volume that is asked about.

    Attributes:
        source: its files; none where `fault` says why.
        keys: column -> value: which it is.
        found: what is told of it.
    """

    source: Source
    keys: Mapping[str, str]
    found: Found
    fault: str = ""


def ask_pictures(
    path: Path, info: DatasetInfo, log: RowNotes, declaration: Path | None = None
) -> Asked:
    """Return a picture, or all those of a folder, by name or in the order of the table of them.

    Args:
        path: of the file or folder.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.
        declaration: file that says how the folder is laid out; None for the folder's own.

    Raises:
        DataError: there is no picture, the model is not for pictures, or other pictures are
            declared than it was trained on.
    """
    if info.kind not in SPATIAL_KINDS or len(set(info.shape[1:])) != 1:
        raise DataError(
            f"{path} holds pictures; the model was trained on {info.kind} records of {info.shape}: "
            "give arrays in an npz file",
            code="shape",
        )
    root = path if path.is_dir() else path.parent
    declared = _declared(path, info, declaration)
    if path.is_dir() and declared.pictures.manifest:
        records = _listed(root, declared, _PUBLISHED.get(info.name, (None, ""))[1], log)
    else:
        records = _in_folder(path, root, declared, info)
    return _asked(_in_series(records, declared, info), declared, info, log)


def _declared(path: Path, info: DatasetInfo, declaration: Path | None) -> Declaration:
    """Return how a folder is laid out, if it holds what the model knows.

    Raises:
        DataError: it declares other data.
    """
    file = declaration
    if file is None and path.is_dir() and (path / FOLDER_FILE).is_file():
        file = path / FOLDER_FILE
    if file is None:
        listing, _ = _PUBLISHED.get(info.name, (None, ""))
        listed = listing is not None and (path / listing.pictures.manifest).is_file()
        if listing and listed:
            return listing
        if info.task in OF_CLASSES:
            return Declaration(classes=info.classes)
        return declaration_of(info)
    declared = read_declaration(file)
    if info.declared:
        check_same(declared.public(), info.declared, str(file))
    else:
        # Of a data set that nobody declares, the classes are what both say.
        said, known = ({"classes": str(list(one.classes))} for one in (declared, info))
        check_same(said, known, str(file))
    return declared


def _in_folder(path: Path, root: Path, declared: Declaration, info: DatasetInfo) -> list[_Record]:
    """Return the pictures of a folder, by name, with what its folders say of them."""
    files, layout, quiet = _files(path), declared.pictures.layout, ReadingLog()
    if info.task == SEGMENTATION:
        masks = declared.pictures.masks or "masks"
        files = [one for one in files if masks not in one.relative_to(root).parts[:-1]]
        told = {one: Found(file=one) for one in files}
        if path.is_dir() and (path / masks).is_dir():
            told |= {one.file: one for one in paired(root, masks, layout, quiet)}
    elif info.task not in OF_CLASSES:
        told = {one: Found(file=one) for one in files}
    elif path.is_file() or not layout:
        told = {one: Found(file=one, label=_above(one, root, info.classes)) for one in files}
    else:
        told = {one: Found(file=one) for one in files}
        # What training leaves out, as of no class, is asked about all the same.
        told |= {one.file: one for one in walk(root, layout, info.classes, quiet)}
    if path.is_dir():
        told |= {one.file: one for one in owned(root, list(told.values()), quiet)}
    return [
        _Record(source=(one,), keys={"file": one.relative_to(root).as_posix()}, found=told[one])
        for one in files
    ]


def _above(file: Path, root: Path, classes: Sequence[str]) -> int:
    """Return the class of the nearest folder that is named after one."""
    named = {one.casefold(): number for number, one in enumerate(classes)}
    for folder in reversed((root.name, *file.relative_to(root).parts[:-1])):
        if folder.casefold() in named:
            return named[folder.casefold()]
    return UNTOLD


def _listed(root: Path, declared: Declaration, inner: str, log: RowNotes) -> list[_Record]:
    """Return the pictures that a manifest lists, in its order; labels and owners may be absent.

    `inner` is the folder beside the manifest that they are in; "" for the manifest's own.
    """
    said, table, odd = declared.pictures, root / declared.pictures.manifest, RowsLeftOut()
    if not table.is_file():
        raise DataError(
            f"{table} does not exist, but [pictures] manifest names it", code="missing-file"
        )
    read = read_rows(table, [said.file], odd, declared.file)
    nobody = declared.model_copy(update={"patient": "", "hospital": ""})
    encoder = Encoder(nobody, read.dialect, log)
    told = set(declared.target_columns) <= set(read.header)
    records = {
        number: _Record(
            source=(), keys=_keys(number), found=Found(file=_NONE, label=UNTOLD), fault=fault
        )
        for number, fault in odd.left_out.items()
    }
    for place, row in read.rows:
        number, file = (
            int(place.rpartition(" ")[2]),
            picture_of(table.parent / inner, row[said.file]),
        )
        label = encoder.label(place, row) if told else None
        patient = identifier(row.get(declared.patient, ""))
        records[number] = _Record(
            source=() if file is None else (file,),
            keys=_keys(number, row[said.file]),
            found=Found(
                file=file or _NONE,
                label=no_target(declared) if label is None else label,
                patient=patient,
                mask=_mask(table.parent, row, said.masks),
            ),
            fault="" if file else "no such picture: no prediction",
        )
    log.of_record()
    return [records[number] for number in sorted(records)]


def _mask(folder: Path, row: Row, column: str) -> Path | None:
    return picture_of(folder, row[column]) if row.get(column) else None


def _keys(row: int, file: str = "") -> dict[str, str]:
    return {"row": str(row), "file": file}


def _in_series(records: list[_Record], declared: Declaration, info: DatasetInfo) -> list[_Record]:
    """Return the records, the slices of a DICOM series as one, in order; owners by headers."""
    said = Pictures(volumes=info.kind == "volume", patient=declared.pictures.patient)
    if not (said.volumes or said.patient == "header"):
        return records
    series: dict[tuple[str, ...], list[tuple[float, _Record]]] = {}
    for number, one in enumerate(records):
        key: tuple[str, ...] = (str(number),)
        along, found, fault = 0.0, one.found, one.fault
        if not fault:
            try:
                key, along, patient = place_in_series(one.found, said)
                if said.patient == "header":
                    found = replace(one.found, patient=patient)
            except Exception as error:
                # What a damaged header makes its reader raise is anybody's guess.
                fault = _fault(f"{one.source[0].name}: {error}")
        series.setdefault(key, []).append((along, replace(one, found=found, fault=fault)))
    made = []
    for slices in series.values():
        ordered = [one for _, one in sorted(slices, key=lambda s: (s[0], s[1].found.file))]
        made.append(replace(ordered[0], source=tuple(f for one in ordered for f in one.source)))
    return made


def _fault(said: str) -> str:
    return f"no readable picture: no prediction ({said})"


def _asked(
    records: list[_Record], declared: Declaration, info: DatasetInfo, log: RowNotes
) -> Asked:
    store = PictureStore([one.source for one in records], picture_form(info), log)
    rows, notes = [], []
    log.of_record()
    for row, one in enumerate(records):
        said = one.fault
        if not said:
            good = bool(np.isfinite(store.read(np.asarray([row]))).all())
            why = log.of_record().removeprefix(f"{one.source[0]}: ")
            said = "" if good else _fault(why.partition(": not a readable")[0])
        if not said:
            rows.append(row)
        notes.append(said)
    known = np.asarray(rows, dtype=np.int64)
    names = [one.found.patient for one in records]
    keys: dict[str, Any] = {key: [one.keys[key] for one in records] for key in records[0].keys}
    if any(names) and declared.pictures.patient != "header":
        # Of a header, a patient's identifier is used and never shown.
        keys["patient"] = names
    return Asked(
        keys=keys,
        inputs=LazyInputs(store).view(known),
        rows=known,
        notes=notes,
        labels=_told(records, declared, info, log),
        patients=patient_numbers(names),
        names=names if any(names) else (),
    )


def _told(
    records: list[_Record], declared: Declaration, info: DatasetInfo, log: RowNotes
) -> NDArray[Any] | None:
    """Return the targets of all records; None where not one is told."""
    if info.task == SEGMENTATION:
        masks = [one.found.mask for one in records]
        if not any(masks):
            return None
        values = declared.pictures.mask_values
        return read_masks(MaskStore(masks, picture_form(info), info.classes, values, log))
    nothing = no_target(declared)
    labels = [nothing if one.found.label == UNTOLD else one.found.label for one in records]
    return target_array(declared, labels) if labels != [nothing] * len(labels) else None


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
    if not (files := pictures_in(path, deep=True)):
        raise DataError(
            f"{path}: no picture in it; expected files that end in {', '.join(SUFFIXES)}",
            code="missing-file",
        )
    return files
