"""A first declaration of a folder of pictures or volumes, drafted from it for a person to mend."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clients.data.column_draft import Column, few, outwards
from clients.data.declaration import FOLDER_FILE
from clients.data.draft import Draft, class_line, run_command, toml_string, value_lines
from clients.data.errors import DataError
from clients.data.file_form import look
from clients.data.layouts import (
    BESIDE,
    TRAINED_ON,
    folders_of,
    pictures_in,
    seen_classes,
    seen_layout,
    walk,
)
from clients.data.manifest import OWNERS, picture_of
from clients.data.picture_files import (
    DICOM,
    NIFTI,
    PictureForm,
    open_dicom,
    read_picture,
    suffix_of,
)
from clients.data.pictures import position_of, seen_channels
from clients.data.ranges import Range
from clients.data.reading_log import ReadingLog
from clients.data.rows import read_rows
from clients.data.table_draft import class_lines, columns_of, roles_of

#: Pictures whose values are looked at.
_LOOKED_AT = 32
_AS_TRAIN = {name for name, trained in TRAINED_ON.items() if trained} - {"train"}


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What folders or a manifest say of the pictures.

    Attributes:
        head: the first lines of the declaration.
        pictures: keys of `[pictures]` and their values, as TOML spells them.
        patients: whether it says whose a picture is.
        hospitals: how many hospitals it names.
        columns: of a manifest.
        roles: of these columns.
    """

    head: list[str]
    pictures: dict[str, str]
    patients: bool
    hospitals: int = 0
    columns: tuple[Column, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)


def draft_pictures(root: Path) -> Draft:
    """Look at a folder of pictures, and draft what could be declared of it.

    Raises:
        DataError: it holds none.
    """
    files = pictures_in(root, deep=True)
    if not files:
        raise DataError(f"{root}: no picture in it", code="missing-file")
    oddities: list[str] = []
    held = _held(root, oddities)
    pictures = dict(held.pictures)
    listed = (root / OWNERS).is_file() or "manifest" in pictures
    named = held.patients or listed
    if _of_headers(files, oddities) and not listed:
        # A header is surer than a folder, whose name may be met in two classes.
        pictures["patient"], named = '"header"', True
    if not named:
        oddities.append(
            f"nothing says whose a picture is ({OWNERS}, a folder for each patient): each counts "
            "as a patient of its own, and what is promised holds for a picture"
        )
    looked = files[:: max(1, len(files) // _LOOKED_AT)]
    volumes = any(_is_volume(file) for file in looked) or _has_series(files)
    _unreadable(looked, oddities)
    key, value = ("volumes", "true") if volumes else ("channels", str(seen_channels(files)))
    lines = [
        f"# Drafted from {root.name}: what stands here becomes public, and is the same everywhere.",
        *held.head,
        *value_lines(_range(looked), oddities),
        "",
        "[pictures]",
        *(f"{name} = {said}" for name, said in {**pictures, key: value}.items()),
    ]
    kinds = Counter(suffix_of(file) for file in files)
    return Draft(
        columns=held.columns,
        rows=len(files),
        roles=held.roles,
        oddities=tuple(oddities),
        text="\n".join(lines) + "\n",
        file=root / FOLDER_FILE,
        command=run_command(root, held.hospitals, "cnn3d" if volumes else "scattering"),
        facts=(
            f"{len(files)} files: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()),
            *_sizes(looked),
        ),
    )


def _held(root: Path, oddities: list[str]) -> _Held:
    """Return what a manifest says of the pictures, or else their folders."""
    loose = pictures_in(root)
    tables = [one for one in sorted(root.glob("*.csv")) if one.name != OWNERS]
    foldered = bool(folders_of(root)) and not loose
    for table in tables:
        said: list[str] = []
        try:
            found = _manifest(root, table, said)
        except DataError as error:
            if not foldered:
                raise
            oddities.append(f"passed over, since folders name the classes: {error}")
            continue
        # Where folders name the classes, a table counts only if it says what they do.
        if found and (not foldered or "target" in found.roles.values()):
            oddities += said
            return found
        if found:
            oddities.append(
                f"{table.name} lists pictures, but no column of it looks like an outcome, so that "
                f"classes are those of the folders; if it says whose pictures are, write its "
                f"columns file, patient and hospital into {OWNERS}"
            )
    try:
        layout = seen_layout(root)
    except DataError as error:
        oddities.append(str(error))
        layout = "class"
    names = {one.name.lower() for one in folders_of(root)}
    if beside := sorted(names & set(BESIDE)):
        oddities.append(f"{', '.join(beside)}: taken for no class")
    if "part" in layout and (more := sorted(names & _AS_TRAIN)):
        oddities.append(f"{', '.join(more)}: trained on, as train is; only test is measured on")
    homes = walk(root, layout, seen_classes(root, layout), ReadingLog())
    return _Held(
        head=[class_line(seen_classes(root, layout), "in label order")],
        pictures={"layout": toml_string(layout)},
        patients="patient" in layout,
        hospitals=len({one.hospital for one in homes} - {""}),
    )


def _manifest(root: Path, table: Path, oddities: list[str]) -> _Held | None:
    """Return what a table beside pictures says of them; None where it names none of them."""
    seen = look(table)
    read = read_rows(table, (), ReadingLog(), seen.form)
    cells = {name: [row[name] for _, row in read.rows] for name in dict.fromkeys(read.header)}
    naming = {
        name: sum(picture_of(root, cell) is not None for cell in values[:100])
        for name, values in cells.items()
    }
    file = max(naming, key=lambda name: naming[name], default="")
    if not file or not naming[file]:
        return None
    columns = columns_of(cells, read.dialect)
    roles = roles_of(tuple(one for one in columns if one.name != file), cells)
    by_role = {role: name for name, role in roles.items()}
    if "target" not in by_role:
        oddities.append(f"{table.name}: no column looks like an outcome: write its name: target")
    pictures = {"manifest": toml_string(table.name), "file": toml_string(file)}
    if split := next((name for name in cells if name.lower() in ("split", "part", "fold")), ""):
        pictures["split"] = toml_string(split)
    oddities += seen.doubts
    homes = cells[by_role["hospital"]] if "hospital" in by_role else []
    return _Held(
        head=[
            f"target = {toml_string(by_role.get('target', ''))}",
            *class_lines(by_role, cells),
            *(
                f"{role} = {toml_string(by_role[role])}"
                for role in ("patient", "hospital")
                if role in by_role
            ),
        ],
        pictures=pictures,
        patients="patient" in by_role,
        hospitals=len(set(homes) - {""}),
        columns=columns,
        roles=roles,
    )


def _unreadable(files: Sequence[Path], oddities: list[str]) -> None:
    """Say which of the files that are looked at cannot be read, whatever their range."""
    said = []
    for file in files:
        form = PictureForm(
            size=8,
            channels=1,
            volumes=_is_volume(file),
            range=Range(low=0.0, high=1.0),
            deep=True,
        )
        try:
            read_picture((file,), form)
        except Exception as error:
            said.append(f"{file} cannot be read, so that it takes no part: {error}")
    oddities += few(said, "such files")


def _of_headers(files: Sequence[Path], oddities: list[str]) -> bool:
    """Whether DICOM files name their patients."""
    headed = [file for file in files if suffix_of(file) in DICOM]
    try:
        named = [bool(open_dicom(file, header_alone=True).get("PatientID")) for file in headed]
    except Exception as error:
        oddities.append(f"{headed[0]}: {error}")
        return False
    if headed and not all(named):
        oddities.append(f"{named.count(False)} DICOM files name no patient")
    return bool(headed) and any(named)


def _has_series(files: Sequence[Path]) -> bool:
    """Whether several DICOM files are slices of one series, at different places."""
    places: dict[str, set[float]] = {}
    for file in files:
        if suffix_of(file) not in DICOM:
            continue
        try:
            header = open_dicom(file, header_alone=True)
        except Exception:
            continue
        if header.get("ImagePositionPatient"):
            series = str(header.get("SeriesInstanceUID", file))
            places.setdefault(series, set()).add(position_of(header))
    return any(len(found) > 1 for found in places.values())


def _is_volume(file: Path) -> bool:
    try:
        if suffix_of(file) in NIFTI:
            from nibabel import load

            shape = [one for one in load(file).shape if one > 1]  # type: ignore[attr-defined]
            return len(shape) > 2
        if suffix_of(file) in DICOM:
            return int(open_dicom(file, header_alone=True).get("NumberOfFrames", 1) or 1) > 1
    except Exception:
        return False
    return False


def _range(files: Sequence[Path]) -> tuple[float, float] | None:
    """Return what values can be, rounded outwards; None where files say it."""
    found = [values for file in files if (values := _values(file)) is not None]
    if not found:
        return None
    low = float(min(values.min() for values in found))
    high = float(max(values.max() for values in found))
    if all(values.dtype.kind in "iu" for values in found) and low >= 0:
        return 0.0, float(2 ** math.ceil(math.log2(high + 1)) - 1) if high else 1.0
    return (0.0, 1.0) if low >= 0 and high <= 1 else outwards(low, high)


def _values(file: Path) -> np.ndarray[Any, Any] | None:
    """Return the values of a file that does not say what they can be, None of one that does."""
    try:
        if suffix_of(file) in NIFTI:
            from nibabel import load

            return np.asarray(load(file).dataobj)  # type: ignore[attr-defined]
        if suffix_of(file) in DICOM:
            return None
        from PIL import Image

        with Image.open(file) as image:
            values = np.asarray(image)
        return None if values.dtype in (np.uint8, np.bool_) else values
    except Exception:
        return None  # said already


def _sizes(files: Sequence[Path]) -> list[str]:
    """Return a line about how large pictures are."""
    from PIL import Image

    sizes = []
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.append(image.size)
        except Exception:
            continue
    if not sizes:
        return []
    small, large = min(sizes), max(sizes)
    text = f"{small[0]} x {small[1]} pixels"
    return [text if small == large else f"{text} to {large[0]} x {large[1]}"]
