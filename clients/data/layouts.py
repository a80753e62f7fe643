"""Which pictures a folder holds, and what its folders say of each: part, hospital, class, patient.

A layout names the levels of folders, from the outside in:

    class                    benign/a.png
    part/class               train/benign/a.png, val/..., test/...
    hospital/class           lyon/benign/a.png
    class/patient            benign/p17/a.png

Folders that begin with a dot, `__MACOSX`, and files that begin with a dot are none of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clients.data.declared_parts import FileForm
from clients.data.dialect import Dialect
from clients.data.errors import DataError
from clients.data.picture_files import is_picture
from clients.data.reading_log import ReadingLog
from clients.data.targets import Target

LEVELS = ("part", "hospital", "class", "patient")
#: Names of folders, or of a manifest's split -> whether their pictures are trained on.
TRAINED_ON = {
    **dict.fromkeys(("train", "training", "val", "valid", "validation", "dev"), True),
    **dict.fromkeys(("test", "testing", "holdout"), False),
}
#: Folders beside classes that hold what belongs to pictures, and are no class.
BESIDE = ("masks", "mask", "segmentation", "segmentations", "annotations", "overlays", "labels")
_PLAIN = Dialect(FileForm())


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture's file, and what is known of it.

    Attributes:
        file: its path.
        label: class number, or what else is learnt.
        patient: identifier, "" where nobody is named.
        hospital: name, "" where none is.
        trained_on: whether it is trained on, or measured on.
        mask: file of its mask; None where it has none.
    """

    file: Path
    label: Target = -1
    patient: str = ""
    hospital: str = ""
    trained_on: bool = True
    mask: Path | None = None


def folders_of(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without those that systems put there."""
    return sorted(
        one
        for one in folder.iterdir()
        if one.is_dir() and not one.name.startswith(".") and one.name != "__MACOSX"
    )


def pictures_in(folder: Path, *, deep: bool = False) -> list[Path]:
    """Return the picture files in a folder, sorted; with those of its folders if `deep`."""
    files = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        one
        for one in files
        if is_picture(one)
        and one.is_file()
        and not any(
            part.startswith(".") or part == "__MACOSX" for part in one.relative_to(folder).parts
        )
    )


def walk(root: Path, layout: str, classes: Sequence[str], log: ReadingLog) -> list[Found]:
    """Return the pictures of a folder by its layout: by part, then as the levels are ordered.

    Args:
        root: the folder.
        layout: levels, joined by `/`.
        classes: names of the classes, in label order.
        log: where pictures that are left out are counted.
    """
    found = list(_below(root, layout.split("/"), Found(file=root), classes, log))
    return sorted(found, key=lambda one: not one.trained_on)


def _below(
    folder: Path, levels: Sequence[str], so_far: Found, classes: Sequence[str], log: ReadingLog
) -> Iterator[Found]:
    if not levels:
        deep = so_far.patient != ""
        yield from (replace(so_far, file=file) for file in pictures_in(folder, deep=deep))
        if not deep and (
            left := sum(len(pictures_in(one, deep=True)) for one in folders_of(folder))
        ):
            log.note(
                "deeper than the layout: the record is out",
                f"{folder}: declare what its folders are, as in [pictures] layout = "
                '"class/patient"',
                count=left,
            )
        return
    level, *rest = levels
    named = folders_of(folder)
    if level == "class":
        labels = {one.name: _PLAIN.choice(one.name, classes) for one in named}
        named = sorted(named, key=lambda one: (_order(labels[one.name]), one.name))
    for one in named:
        known = _known(one, level, so_far, classes, log)
        if known is not None:
            yield from _below(one, rest, known, classes, log)


def _order(label: int | None) -> int:
    return -1 if label is None else label


def _known(
    folder: Path, level: str, so_far: Found, classes: Sequence[str], log: ReadingLog
) -> Found | None:
    """Return what is known within a folder of a level; None where it is out."""
    name = folder.name
    if level == "hospital":
        return replace(so_far, hospital=name)
    if level == "patient":
        return replace(so_far, patient=name)
    if level == "part" and name.lower() in TRAINED_ON:
        return replace(so_far, trained_on=TRAINED_ON[name.lower()])
    label = _PLAIN.choice(name, classes) if level == "class" else None
    if label is not None:
        return replace(so_far, label=label)
    count = len(pictures_in(folder, deep=True))
    if count and level == "class":
        log.note(
            "no declared class: the record is out",
            f"{folder.parent}: folder {name!r}, expected {', '.join(classes)}",
            count=count,
        )
    elif count:
        log.note(
            "no known part: the record is out",
            f"{folder.parent}: folder {name!r}, expected {', '.join(TRAINED_ON)}",
            count=count,
        )
    return None


def usual_layout(root: Path) -> str:
    """Return the layout of a folder that declares none: classes, in parts if `train` is there."""
    return "part/class" if any(one.name.lower() == "train" for one in folders_of(root)) else "class"


def seen_layout(root: Path) -> str:
    """Return the layout that a folder seems to have; never of a hospital's own.

    Raises:
        DataError: `declaration`: it may have two, or none.
    """
    parts = [one for one in folders_of(root) if one.name.lower() in TRAINED_ON]
    prefix, base = ("part/", parts[0]) if parts else ("", root)
    outer = [one for one in folders_of(base) if pictures_in(one, deep=True)]
    outer = [one for one in outer if one.name.lower() not in BESIDE]
    if not outer:
        raise DataError(_nothing(base), code="missing-file")
    if all(pictures_in(one) for one in outer):
        return f"{prefix}class"
    inner = Counter(
        one.name for above in outer for one in folders_of(above) if pictures_in(one, deep=True)
    )
    numbered = sum(re.search(r"\d", name) is not None for name in inner)
    if numbered > len(inner) / 2:
        return f"{prefix}class/patient"
    if len(outer) > 1 and all(count > 1 for count in inner.values()):
        return f"{prefix}hospital/class"
    raise DataError(
        f"{base}: folders {', '.join(one.name for one in outer[:3])} hold folders "
        f"{', '.join(sorted(inner)[:3])}: say what they are, as in [pictures] layout = "
        '"hospital/class" or "class/patient"',
        code="declaration",
    )


def _nothing(base: Path) -> str:
    """Say what a folder without folders of pictures may be."""
    tables = sorted(one.name for one in base.iterdir() if one.suffix.lower() == ".csv")
    loose = len(pictures_in(base))
    if loose and tables:
        return (
            f"{base}: {loose} pictures beside {tables[0]}, and no folder for each class: declare "
            f"[pictures] manifest = \"{tables[0]}\" and its columns ('flower-simulation describe' "
            "drafts it)"
        )
    return f"{base}: 0 folders with pictures, expected one for each class"


def seen_classes(root: Path, layout: str) -> tuple[str, ...]:
    """Return the classes that a folder seems to have, sorted; those beside them are none."""
    folders = [root]
    for level in layout.split("/"):
        inner = [one for folder in folders for one in folders_of(folder)]
        if level == "class":
            names = {one.name for one in inner if pictures_in(one, deep=True)}
            return tuple(sorted(name for name in names if name.lower() not in BESIDE))
        folders = [one for one in inner if level != "part" or one.name.lower() in TRAINED_ON]
    return ()
