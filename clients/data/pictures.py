"""Picture files: found by folder, decoded once, on first use, shared by every hospital's view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.declaration import FOLDER_FILE, declared_beside
from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.reading_log import ReadingLog
from clients.data.records import Dataset, DatasetInfo, Floats, Ints, LazyInputs, Records, dense
from clients.data.rows import read_rows

#: Whose pictures those of a folder are.
OWNERS = "patients.csv"
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp")
#: Largest picture that is decoded: its file, and its height times width.
MOST_BYTES = 256 * 1024**2
MOST_PIXELS = 80_000_000
_BUDGET_BYTES = 2 * 1024**3  # decoded pictures kept by a process; beyond it they are decoded again


class PictureStore:
    """Picture files brought to one size, as bytes, decoded when first read.

    Args:
        files: one a row.
        size: height and width, pixels.
        channels: 1 for grey, 3 for colour.
        log: where pictures that cannot be read are counted.
    """

    def __init__(
        self, files: Sequence[Path], size: int, channels: int, log: ReadingLog | None = None
    ) -> None:
        self._files = list(files)
        self._size = size
        self._channels = channels
        self._log = ReadingLog() if log is None else log
        self._unreadable: set[int] = set()
        # Memory that was never written to costs nothing; only decoded rows do.
        kept = min(len(self._files), _BUDGET_BYTES // (size * size * channels))
        self._pixels = np.empty((kept, channels, size, size), dtype=np.uint8)
        self._decoded = np.zeros(kept, dtype=bool)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, height, width."""
        return (len(self._files), self._channels, self._size, self._size)

    def read(self, rows: Ints) -> Floats:
        """Return the pictures as float32 in [0, 1]; one that cannot be read is all NaN."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            if row < len(self._decoded) and self._decoded[row]:
                out[place] = self._pixels[row]
                continue
            pixels = None if row in self._unreadable else self._decode(self._files[row])
            if pixels is None:
                self._unreadable.add(row)
                out[place] = np.nan
                continue
            out[place] = pixels
            if row < len(self._decoded):
                self._pixels[row] = pixels
                self._decoded[row] = True
        return out / np.float32(255)

    def identity(self) -> bytes:
        """Return what changes when a file does: names, sizes and times of change."""
        states = [(str(file), *_state(file)) for file in self._files]
        return repr(states).encode()

    def _decode(self, file: Path) -> NDArray[np.uint8] | None:
        """Return a picture's bytes, or None where it cannot be read."""
        try:
            return decode(file, self._size, self._channels)
        except Exception as error:
            # What a decoder raises for a damaged file is anybody's guess.
            self._log.note("not a readable picture: the record is out", f"{file}: {error}")
            return None


def decode(file: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Return a picture brought to a size, uint8 [channels, size, size].

    Its size is known from its header before a pixel is decoded.

    Raises:
        Exception: it cannot be read, or is too large.
    """
    from PIL import Image

    if (found := file.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{found} bytes, at most {MOST_BYTES} are read")
    with Image.open(file) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, at most {MOST_PIXELS} are decoded"
            )
        mode = "L" if channels == 1 else "RGB"
        image.draft(mode, (size * 2, size * 2))
        resized = image.convert(mode).resize((size, size), Image.Resampling.BOX, reducing_gap=None)
        pixels = np.asarray(resized, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)


def _state(file: Path) -> tuple[int, int]:
    """Return what changes when a file does; nothing where there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def files_below(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name; hidden ones are none."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sub-folders that hold pictures, sorted: the classes."""
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and files_below(p)))


def load_image_folder(where: Location) -> Dataset:
    """Return `image-folder:<folder>`: `[train|test/]<class>/<picture>`.

    A file `patients.csv` in the folder (columns `file`, relative to it, `patient` and, if there is
    one, `hospital`) says whose picture it is; without it each picture is its own patient.
    """
    root = _named_folder(where)
    parts = _parts_of(root)
    found = class_folders(parts[0])
    file = where.declared_in(root / FOLDER_FILE)
    classes = declared_beside(file, required=where.declared, found=found).classes
    if len(classes) < 2:
        fault = f"{parts[0]}: {len(classes)} folders with pictures, expected one for each class"
        raise DataError(fault, code="missing-file")
    pictures = gather(parts, classes, where.log)
    owners = _owners(root, pictures.files, where.log)
    if owners is not None:
        known = [row for row, owner in enumerate(owners) if owner is not None]
        pictures = pictures.take(known)
        owned = [owner for owner in owners if owner is not None]
        patients, _ = dense([patient for patient, _ in owned])
    else:
        owned, patients = [], np.arange(len(pictures.files), dtype=np.int64)
    homes, names = dense([o[1] for o in owned]) if owned and owned[0][1] else (None, ())
    everything = Records(
        inputs=LazyInputs(PictureStore(pictures.files, where.image_size, 3, where.log)),
        labels=pictures.labels,
        patients=patients,
        hospitals=homes,
    )
    cut = pictures.first
    test = everything.take(slice(cut, None)) if cut < len(everything) else None
    return Dataset(
        info=DatasetInfo(
            name=f"image-folder:{where.variant}",
            title=f"pictures in {root.name}",
            task="binary" if len(classes) == 2 else "multiclass",
            shape=(3, where.image_size, where.image_size),
            classes=classes,
            kind="image",
            input_range=(0.0, 1.0),
            has_patient_ids=owners is not None,
            has_hospital_ids=homes is not None,
        ),
        train=everything.take(slice(0, cut)),
        test=test,
        hospital_names=names,
        log=where.log,
    )


def _named_folder(where: Location) -> Path:
    if not where.variant:
        raise DataError("say which: image-folder:<folder>", code="unknown-dataset")
    named = Path(where.variant).expanduser()
    root = named if named.is_dir() else find(where.data_dir, [where.variant])
    if not root.is_dir():
        raise DataError(f"{root} is no folder", code="missing-file")
    return root


def _parts_of(root: Path) -> list[Path]:
    """Return the folders of the parts: for training, then for testing if there is one."""
    train, test = root / "train", root / "test"
    if not train.is_dir():
        return [root]
    return [train, test] if test.is_dir() else [train]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Picture files, their class numbers, and how many of them are in the first part."""

    files: list[Path]
    labels: Ints
    first: int

    def take(self, rows: Sequence[int]) -> Pictures:
        """Return some of them, in order."""
        return Pictures(
            files=[self.files[row] for row in rows],
            labels=self.labels[list(rows)],
            first=sum(row < self.first for row in rows),
        )


def gather(parts: Sequence[Path], classes: Sequence[str], log: ReadingLog) -> Pictures:
    """Return the pictures of all parts; those in a folder of no class are left out."""
    files: list[Path] = []
    labels: list[int] = []
    first = 0
    for number, part in enumerate(parts):
        for strange in sorted(set(class_folders(part)) - set(classes)):
            log.note(
                "no declared class: the record is out",
                f"{part}: folder {strange!r}, expected {', '.join(classes)}",
                count=len(files_below(part / strange)),
            )
        for label, name in enumerate(classes):
            found = files_below(part / name) if (part / name).is_dir() else []
            files.extend(found)
            labels.extend([label] * len(found))
        first = first if number else len(files)
    return Pictures(files=files, labels=np.asarray(labels, dtype=np.int64), first=first)


def _owners(
    root: Path, files: Sequence[Path], log: ReadingLog
) -> list[tuple[str, str] | None] | None:
    """Return (patient, hospital) of each file from the table of owners, None without that table.

    A file of nobody's is None, and so is one without a hospital where the others have one.
    """
    table = root / OWNERS
    if not table.is_file():
        return None
    listed = {}
    for place, row in read_rows(table, ("file", "patient"), log).rows:
        if all(row.get(column, "-") for column in ("file", "patient", "hospital")):
            listed[row["file"].replace("\\", "/")] = (row["patient"], row.get("hospital", ""))
        else:
            log.note("no identifier: the record is out", place)
    owners: list[tuple[str, str] | None] = []
    for file in files:
        name = file.relative_to(root).as_posix()
        if name not in listed:
            log.note("no patient is told: the record is out", f"{table}: no row for {name}")
        owners.append(listed.get(name))
    return owners
