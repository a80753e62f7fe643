"""Folders of pictures or volumes: found, decoded once, shared by every hospital's view."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Dataset
from clients.data.declaration import (
    FOLDER_FILE,
    Declaration,
    check_confirmed,
    declared_beside,
)
from clients.data.declared_parts import Pictures
from clients.data.dialect import says_nothing
from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.layouts import (
    Found,
    seen_classes,
    seen_layout,
    usual_layout,
    walk,
)
from clients.data.manifest import OWNERS, listed, owned
from clients.data.masks import MaskStore, paired, read_masks
from clients.data.picture_files import (
    DICOM,
    NIFTI,
    PictureForm,
    Source,
    open_dicom,
    read_picture,
    suffix_of,
)
from clients.data.reading_log import ReadingLog
from clients.data.records import (
    DatasetInfo,
    Floats,
    Ints,
    LazyInputs,
    LazyTargets,
    Records,
    dense,
)
from clients.data.targets import target_array
from clients.tasks.question import SEGMENTATION

_BUDGET_BYTES = 2 * 1024**3  # decoded pictures kept by a process; beyond it they are decoded again
#: Pictures whose header is looked at, to tell what a folder holds.
_LOOKED_AT = 64


class PictureStore:
    """Picture files brought to one form, decoded when first read.

    Args:
        sources: files of one picture each: a path, or those of its slices.
        form: what they are brought to.
        log: where pictures that cannot be read are counted.
    """

    def __init__(
        self, sources: Sequence[Path | Source], form: PictureForm, log: ReadingLog | None = None
    ) -> None:
        self._sources = [(one,) if isinstance(one, Path) else one for one in sources]
        self._form = form
        self._log = ReadingLog() if log is None else log
        self._unreadable: set[int] = set()
        kind = np.dtype(np.float32 if form.deep else np.uint8)
        bytes_each = int(np.prod(form.shape)) * kind.itemsize
        # Memory that was never written to costs nothing; only decoded rows do.
        kept = min(len(self._sources), _BUDGET_BYTES // bytes_each)
        self._pixels = np.empty((kept, *form.shape), dtype=kind)
        self._decoded = np.zeros(kept, dtype=bool)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, then space."""
        return (len(self._sources), *self._form.shape)

    def read(self, rows: Ints) -> Floats:
        """Return the pictures as float32 in [0, 1]; one that cannot be read is all NaN."""
        out = np.empty((len(rows), *self._form.shape), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            if row < len(self._decoded) and self._decoded[row]:
                out[place] = self._pixels[row]
                continue
            pixels = None if row in self._unreadable else self._decode(self._sources[row])
            if pixels is None:
                self._unreadable.add(row)
                out[place] = np.nan
                continue
            out[place] = pixels
            if row < len(self._decoded):
                self._pixels[row] = pixels
                self._decoded[row] = True
        return out if self._form.deep else out / np.float32(255)

    def files(self, row: int) -> tuple[bytes, ...]:
        """Return the names of the files of a picture."""
        return tuple(os.fsencode(file) for file in self._sources[row])

    def identity(self) -> bytes:
        """Return what changes when a file does: names, sizes and times of change."""
        states = [(str(file), *_state(file)) for source in self._sources for file in source]
        return repr(states).encode()

    def _decode(self, source: Source) -> NDArray[Any] | None:
        """Return a picture's values, or None where it cannot be read."""
        try:
            return read_picture(source, self._form)
        except Exception as error:
            # What a decoder raises for a damaged file is anybody's guess.
            reason = str(error).replace(str(source[0]), source[0].name)
            note = f"{source[0]}: {reason or type(error).__name__}"
            self._log.note("not a readable picture: the record is out", note)
            return None


def _state(file: Path) -> tuple[int, ...]:
    """Return what changes when a file does; nothing where there is none.

    Who copies a corrected file over another may keep its size and its time, but not its status's.
    """
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def load_image_folder(where: Location) -> Dataset:
    """Return `image-folder:<folder>`: folders for classes, hospitals, patients, or a manifest.

    A file `patients.csv` in the folder (columns `file`, relative to it, `patient` and, if there is
    one, `hospital`) says whose picture it is; without it, or folders of patients, each picture is
    its own patient.
    """
    root = named_folder(where)
    declared = _declared(root, where)
    found, named = _found(root, declared, where)
    records = _records(found, declared, where)
    form = _form(records, declared, where, root=root)
    if not where.declared:
        _check_some(root, records, form)
    named = named or declared.pictures.patient == "header"
    return _dataset(records, form, declared, where, root=root, named=named)


def _found(root: Path, declared: Declaration, where: Location) -> tuple[list[Found], bool]:
    """Return a folder's files, and whether folders or tables say whose they are."""
    if declared.pictures.manifest:
        return listed(root, declared, where), bool(declared.patient)
    layout = layout_of(root, declared, where)
    if masks := declared.pictures.masks:
        found = paired(root, masks, layout, where.log)
    else:
        found = walk(root, layout, declared.classes, where.log)
    return owned(root, found, where.log), "patient" in layout or (root / OWNERS).is_file()


def header_patients(where: Location) -> frozenset[str]:
    """Return whom the headers of a folder's files name, where patients are declared to be these.

    To know them again, within the hospital: a header's identifier is shown to nobody.
    """
    root = named_folder(where)
    declared = _declared(root, where)
    if declared.pictures.patient != "header":
        return frozenset()
    found, _ = _found(root, declared, where)
    return frozenset(one.found.patient for one in _records(found, declared, where))


def _check_some(root: Path, records: list[_Record], form: PictureForm) -> None:
    """Refuse a folder of which no picture that is looked at can be read; never a hospital's own.

    Raises:
        DataError: it holds none, or the first, middle and last cannot be read.
    """
    if not records:
        raise DataError(f"{root}: no picture of a declared class", code="missing-file")
    reasons = []
    for place in sorted({0, len(records) // 2, len(records) - 1}):
        try:
            read_picture(records[place].source, form)
            return
        except Exception as error:
            reasons.append(f"{records[place].source[0]}: {error or type(error).__name__}")
    raise DataError(
        f"none of {len(reasons)} pictures can be read, such as {reasons[0]}", code="unreadable"
    )


def named_folder(where: Location) -> Path:
    """Return the folder that is named in the settings."""
    if not where.variant:
        raise DataError("say which: image-folder:<folder>", code="unknown-dataset")
    named = where.named()
    root = named if named.is_dir() else find(where.data_dir, [where.variant])
    if not root.is_dir():
        raise DataError(f"{root} is no folder", code="missing-file")
    return root


def _declared(root: Path, where: Location) -> Declaration:
    """Return what is declared of a folder, or the classes that its folders show."""
    file = where.declared_in(root / FOLDER_FILE)
    found: tuple[str, ...] = ()
    if not file.is_file():
        layout = usual_layout(root) if where.declared else seen_layout(root)
        found = seen_classes(root, layout)
        if len(found) < 2 and not where.declared:
            fault = f"{root}: {len(found)} folders with pictures, expected one for each class"
            raise DataError(fault, code="missing-file")
    declared = declared_beside(file, required=where.declared, found=found)
    check_confirmed(declared, file, unconfirmed=where.unconfirmed)
    return declared


def layout_of(root: Path, declared: Declaration, where: Location) -> str:
    """Return the declared layout; else the usual one, or what a public folder seems to have."""
    if declared.pictures.layout or declared.pictures.masks:
        return declared.pictures.layout
    return usual_layout(root) if where.declared else seen_layout(root)


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A picture or volume that takes part."""

    source: Source
    found: Found


def _records(found: list[Found], declared: Declaration, where: Location) -> list[_Record]:
    """Return the records: a file each, or the slices of a DICOM series; patients from headers."""
    said = declared.pictures
    if not (said.volumes or said.patient == "header"):
        return [_Record(source=(one.file,), found=one) for one in found]
    series: dict[tuple[str, ...], list[tuple[float, Found]]] = {}
    for one in found:
        try:
            key, position, patient = place_in_series(one, said)
        except Exception as error:
            # What a damaged header makes its reader raise is anybody's guess.
            where.log.note("not a readable picture: the record is out", f"{one.file}: {error}")
            continue
        if said.patient == "header" and says_nothing(patient):
            where.log.note("no patient is told: the record is out", f"{one.file}: no PatientID")
            continue
        series.setdefault(key, []).append((position, replace(one, patient=patient)))
    records = []
    for slices in series.values():
        ordered = sorted(slices, key=lambda one: (one[0], one[1].file))
        files = tuple(one.file for _, one in ordered)
        records.append(_Record(source=files, found=ordered[0][1]))
    return records


def place_in_series(one: Found, said: Pictures) -> tuple[tuple[str, ...], float, str]:
    """Return which record a file belongs to, how far along it lies, and whose it is.

    Raises:
        Exception: its header cannot be read, or holds no such numbers.
    """
    key: tuple[str, ...] = (str(one.file),)
    if suffix_of(one.file) not in DICOM:
        return key, 0.0, one.patient
    told, series, along = _header(one.file, _state(one.file), said.volumes)
    patient = told if said.patient == "header" else one.patient
    return (str(one.label), patient, series) if series else key, along, patient


@lru_cache(maxsize=1 << 16)
def _header(file: Path, state: tuple[int, ...], volumes: bool) -> tuple[str, str, float]:
    """Return what a DICOM file's header says: whose it is, of which series, how far along it lies.

    A hospital's process reads its folder for every message: a file whose state (`_state`) is what
    it was is not opened again. Of no series: it is a record by itself.
    """
    header = open_dicom(file, header_alone=True)
    patient = str(header.get("PatientID", "") or "")
    if not volumes or int(header.get("NumberOfFrames", 0) or 0) > 1:
        return patient, "", 0.0
    return patient, str(header.get("SeriesInstanceUID", file)), position_of(header)


def position_of(header: Any) -> float:
    """Return how far along its series' own direction a slice lies, in millimetres."""
    place, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if not place or not axes or len(axes) != 6:
        return float(header.get("InstanceNumber", 0) or 0)
    along = np.cross([float(x) for x in axes[:3]], [float(x) for x in axes[3:]])
    return float(np.dot([float(x) for x in place], along))


def _form(
    records: list[_Record], declared: Declaration, where: Location, *, root: Path
) -> PictureForm:
    """Return the form of a folder's pictures: declared, or as they look where nothing is."""
    said, files = declared.pictures, [one.source[0] for one in records]
    # Where there is a declaration it means the same at the server's folder and at a hospital's.
    told = where.declared or where.declared_in(root / FOLDER_FILE).is_file()
    channels = said.channels or (3 if told else seen_channels(files))
    special = any(suffix_of(file) in (*DICOM, *NIFTI) for file in files)
    return PictureForm(
        size=where.image_size,
        channels=1 if said.volumes else channels,
        volumes=said.volumes,
        range=declared.ranges.get("values"),
        spacing=said.spacing,
        deep=special or said.volumes or "values" in declared.ranges,
    )


def seen_channels(files: Sequence[Path]) -> int:
    """Return 1 where all of the pictures that are looked at are grey, else 3."""
    from PIL import Image

    step = max(1, len(files) // _LOOKED_AT)
    for file in files[::step]:
        try:
            with Image.open(file) as image:
                if image.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                    return 3
        except Exception:
            continue
    return 1


def _targets(
    records: list[_Record], form: PictureForm, declared: Declaration, where: Location
) -> NDArray[Any] | LazyTargets:
    """Return what is learnt of each record; a hospital's own masks are read as they are drawn."""
    if declared.task != SEGMENTATION:
        return target_array(declared, [one.found.label for one in records])
    said, files = declared.pictures, [one.found.mask for one in records]
    masks = MaskStore(files, form, declared.classes, said.mask_values, where.log)
    return LazyTargets(masks) if where.declared else read_masks(masks)


def _dataset(
    records: list[_Record],
    form: PictureForm,
    declared: Declaration,
    where: Location,
    *,
    root: Path,
    named: bool,
) -> Dataset:
    patients = np.arange(len(records), dtype=np.int64)
    names: tuple[str, ...] = ()
    if named:
        patients, names = dense([one.found.patient for one in records])
    homes, hospitals = None, tuple[str, ...]()
    if any(one.found.hospital for one in records):
        homes, hospitals = dense([one.found.hospital for one in records])
    labels = _targets(records, form, declared, where)
    everything = Records(
        inputs=LazyInputs(PictureStore([one.source for one in records], form, where.log)),
        labels=labels,
        patients=patients,
        hospitals=homes,
    )
    cut = sum(one.found.trained_on for one in records)
    test = everything.take(slice(cut, None)) if cut < len(records) else None
    return Dataset(
        info=DatasetInfo(
            name=f"image-folder:{where.variant}",
            title=f"pictures in {root.name}",
            **declared.asked(),
            shape=form.shape,
            kind="volume" if form.volumes else "image",
            input_range=(0.0, 1.0),
            has_patient_ids=named,
            has_hospital_ids=homes is not None,
            declared=declared.public(),
        ),
        train=everything.take(slice(0, cut)),
        test=test,
        hospital_names=hospitals,
        # Of a header, a patient's identifier is used and never shown.
        patient_names=() if declared.pictures.patient == "header" else names,
        log=where.log,
    )
