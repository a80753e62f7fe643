"""Masks of pictures and volumes: which file is whose, and each brought to its picture's form.

    scans/                     scans/                          scans/
      dataset.toml               train/                          dataset.toml
      images/p01/a.png             images/p01/a.nii.gz           labels.csv    image,mask,patient
      masks/p01/a.png              masks/p01/a.nii.gz            x/a.png, y/a-mask.png

A mask goes through what its picture goes through, class by class, and each pixel is of the class
that most of what lies beneath it is of: mask and picture cannot come apart.

A real hospital's masks are read as their patients are drawn (`MaskStore`), as its pictures are: the
run chooses their size, and whether all of them fit into memory would tell how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.contract.stages import report
from clients.data.errors import DataError
from clients.data.layouts import TRAINED_ON, Found, pictures_in
from clients.data.picture_files import (
    DICOM,
    MOST_BYTES,
    MOST_PIXELS,
    NIFTI,
    SUFFIXES,
    PictureForm,
    raw_values,
    resampled,
    suffix_of,
)
from clients.data.reading_log import ReadingLog
from clients.data.records import Ints
from clients.tasks.question import UNREAD

_BLOCK = 64


def paired(root: Path, masks: str, layout: str, log: ReadingLog) -> list[Found]:
    """Return the pictures below a folder that have masks, each with its own.

    Args:
        root: the folder.
        masks: name of the folders of masks, beside those of pictures.
        layout: what the folders above a picture say, but for the one beside the masks; "" nothing.
        log: where pictures without a mask are counted.

    Raises:
        DataError: `missing-file`: there is no such folder.
    """
    if not any(one.is_dir() for one in root.rglob(masks)):
        raise DataError(
            f"{root}: no folder {masks!r} beside the pictures', but [pictures] masks names it",
            code="missing-file",
        )
    found = []
    for file in pictures_in(root, deep=True):
        parts = file.relative_to(root).parts
        if masks in parts[:-1]:
            continue
        pair = next(_candidates(root, parts, masks), None)
        if pair is None:
            log.note("no mask: the record is out", f"{file}: expected one of its name in {masks}/")
            continue
        level, mask = pair
        said = (*parts[:level], *parts[level + 1 : -1])
        known = _levels(layout, said, Found(file=file, label=0, mask=mask))
        if known is None:
            log.note(
                "its folders are not as declared: the record is out", f"{file}: expected {layout}"
            )
            continue
        found.append(known)
    return sorted(found, key=lambda one: not one.trained_on)


def _candidates(root: Path, parts: Sequence[str], masks: str) -> Iterator[tuple[int, Path]]:
    """Yield how many folders lie above the one beside the masks, and the mask of the same name."""
    for level in range(len(parts)):
        above = root.joinpath(*parts[:level]) / masks
        rest = Path(*(parts[level + 1 :] or parts[-1:]))
        if not above.is_dir():
            continue
        stem = rest.name.removesuffix(suffix_of(rest)) if suffix_of(rest) in SUFFIXES else rest.name
        for name in (rest.name, *(stem + ending for ending in SUFFIXES)):
            file = above / rest.parent / name
            if file.is_file():
                yield level, file
                break


def _levels(layout: str, said: Sequence[str], found: Found) -> Found | None:
    """Return what is known of a picture by its folders; None where they are others."""
    levels = layout.split("/") if layout else []
    if len(said) < len(levels):
        return None
    known = dict(zip(levels, said, strict=False))
    part = known.get("part", "train").lower()
    if part not in TRAINED_ON:
        return None
    return Found(
        file=found.file,
        label=found.label,
        mask=found.mask,
        patient=known.get("patient", ""),
        hospital=known.get("hospital", ""),
        trained_on=TRAINED_ON[part],
    )


class MaskStore:
    """Masks in their pictures' form, read whenever they are asked for; none is kept.

    Args:
        files: of the masks; None where there is none.
        form: of the pictures.
        classes: names, in order.
        meant: the value that stands for each class in a file; empty: 0, 1, ...
        log: where masks that cannot be read are counted, each once.
    """

    def __init__(
        self,
        files: Sequence[Path | None],
        form: PictureForm,
        classes: Sequence[str],
        meant: Sequence[int],
        log: ReadingLog,
    ) -> None:
        self._files, self._form, self._log = files, form, log
        self._values = tuple(meant) or tuple(range(len(classes)))
        self._unreadable: set[int] = set()

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then space."""
        return (len(self._files), *self._form.shape[1:])

    def read(self, rows: Ints) -> NDArray[np.uint8]:
        """Return masks, uint8 ``[n, *space]``: class numbers, `UNREAD` throughout where none is."""
        made = np.full((len(rows), *self.shape[1:]), UNREAD, dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            file = self._files[row]
            if file is None or row in self._unreadable:
                continue
            try:
                made[place] = read_mask(file, self._form, self._values)
            except Exception as error:
                # What a decoder raises for a damaged file is anybody's guess.
                self._unreadable.add(row)
                self._log.note("not a readable mask: the record is out", f"{file}: {error}")
        return made


def read_masks(store: MaskStore) -> NDArray[np.uint8]:
    """Return all masks of a store, uint8 ``[n, *space]``."""
    made = np.empty(store.shape, dtype=np.uint8)
    for start in range(0, len(made), _BLOCK):
        report("opening masks", start, len(made))
        made[start : start + _BLOCK] = store.read(np.arange(start, min(start + _BLOCK, len(made))))
    report("opening masks", len(made), len(made))
    return made


def read_mask(file: Path, form: PictureForm, values: Sequence[int]) -> NDArray[np.uint8]:
    """Return a mask in its picture's form, uint8 ``[*space]``.

    Raises:
        Exception: it cannot be read, is too large, or holds a value that stands for no class.
    """
    found, spacing = _values_of(file)
    if odd := sorted(set(np.unique(found).tolist()) - set(values)):
        raise ValueError(f"holds {odd[0]}, expected {', '.join(map(str, values))}")
    made, most = np.zeros(form.shape[1:], dtype=np.uint8), None
    for number, value in enumerate(values):
        share = resampled((found == value).astype(np.float32), spacing, form)
        if most is None:
            most = share
            continue
        made[share > most] = number
        np.maximum(most, share, out=most)
    return made


def _values_of(file: Path) -> tuple[NDArray[np.int64], tuple[float, ...]]:
    if (size := file.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{size} bytes, at most {MOST_BYTES} are read")
    if suffix_of(file) in (*DICOM, *NIFTI):
        return raw_values(file)
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, at most {MOST_PIXELS} are decoded"
            )
        upright = ImageOps.exif_transpose(image)
        plain = upright if upright.mode in ("1", "L", "P", "I;16", "I") else upright.convert("L")
        return np.asarray(plain).astype(np.int64), ()
