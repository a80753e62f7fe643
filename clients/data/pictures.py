"""Picture files: found by folder, decoded once, on first use, shared by every hospital's view."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError
from clients.data.files import Location, find
from clients.data.records import Dataset, DatasetInfo, Floats, Ints, LazyInputs, Records, dense

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_BUDGET_BYTES = 2 * 1024**3  # decoded pictures kept by a process; beyond it they are decoded again


class PictureStore:
    """Picture files brought to one size, as bytes, decoded when first read.

    Args:
        files: one a row.
        size: height and width, pixels.
        channels: 1 for grey, 3 for colour.
    """

    def __init__(self, files: Sequence[Path], size: int, channels: int) -> None:
        self._files = list(files)
        self._size = size
        self._channels = channels
        # Memory that was never written to costs nothing; only decoded rows do.
        kept = min(len(self._files), _BUDGET_BYTES // (size * size * channels))
        self._pixels = np.empty((kept, channels, size, size), dtype=np.uint8)
        self._decoded = np.zeros(kept, dtype=bool)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, height, width."""
        return (len(self._files), self._channels, self._size, self._size)

    def read(self, rows: Ints) -> Floats:
        """Return the pictures as float32 in [0, 1].

        Raises:
            DataError: `unreadable`, naming the file.
        """
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            if row >= len(self._decoded):
                out[place] = self._decode(self._files[row])
                continue
            if not self._decoded[row]:
                self._pixels[row] = self._decode(self._files[row])
                self._decoded[row] = True
            out[place] = self._pixels[row]
        return out / np.float32(255)

    def identity(self) -> bytes:
        """Return what changes when a file does: names, sizes and times of change."""
        states = [(str(file), *_state(file)) for file in self._files]
        return repr(states).encode()

    def _decode(self, file: Path) -> NDArray[np.uint8]:
        from PIL import Image

        try:
            with Image.open(file) as image:
                mode = "L" if self._channels == 1 else "RGB"
                image.draft(mode, (self._size * 2, self._size * 2))
                resized = image.convert(mode).resize(
                    (self._size, self._size), Image.Resampling.BOX, reducing_gap=None
                )
                pixels = np.asarray(resized, dtype=np.uint8)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{file}: not a readable picture ({error})", code="unreadable"
            ) from error
        return pixels[None] if self._channels == 1 else np.moveaxis(pixels, -1, 0)


def _state(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error})", code="unreadable") from error
    return found.st_size, found.st_mtime_ns


def files_below(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sub-folders that hold pictures, sorted: the classes."""
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and files_below(p)))


def load_image_folder(where: Location) -> Dataset:
    """Return `image-folder:<folder>`: `[train|test/]<class>/<picture>`.

    A file `patients.csv` in the folder (columns `file`, relative to it, `patient` and, if there is
    one, `hospital`) says whose picture it is; without it each picture is its own patient.
    """
    if not where.variant:
        raise DataError("say which: image-folder:<folder>", code="unknown-dataset")
    named = Path(where.variant).expanduser()
    root = named if named.is_dir() else find(where.data_dir, [where.variant])
    if not root.is_dir():
        raise DataError(f"{root} is no folder", code="missing-file")
    train, test = root / "train", root / "test"
    parts = (
        [train, test] if train.is_dir() and test.is_dir() else [train if train.is_dir() else root]
    )
    classes = class_folders(parts[0])
    if len(classes) < 2:
        raise DataError(
            f"{parts[0]}: {len(classes)} folders with pictures, expected one for each class",
            code="missing-file",
        )
    files, labels, cut = gather(parts, classes)
    owners = _owners(root, files)
    patients, _ = dense([owner[0] for owner in owners] if owners else range(len(files)))
    homes, names = dense([o[1] for o in owners]) if owners and owners[0][1] else (None, ())
    everything = Records(
        inputs=LazyInputs(PictureStore(files, where.image_size, 3)),
        labels=labels,
        patients=patients,
        hospitals=homes,
    )
    return Dataset(
        info=DatasetInfo(
            name=f"image-folder:{where.variant}",
            title=f"pictures in {root.name}",
            task="binary" if len(classes) == 2 else "multiclass",
            shape=(3, where.image_size, where.image_size),
            classes=classes,
            kind="image",
            input_range=(0.0, 1.0),
            has_patient_ids=bool(owners),
            has_hospital_ids=homes is not None,
        ),
        train=everything.take(slice(0, cut)),
        test=everything.take(slice(cut, None)) if cut < len(files) else None,
        hospital_names=names,
    )


def gather(parts: Sequence[Path], classes: Sequence[str]) -> tuple[list[Path], Ints, int]:
    """Return the files of all parts, their labels, and how many are in the first part."""
    files: list[Path] = []
    labels: list[int] = []
    cut = 0
    for part in parts:
        strange = sorted(set(class_folders(part)) - set(classes))
        if strange:
            raise DataError(
                f"{part}: folder {strange[0]!r} is no class; expected {', '.join(classes)}",
                code="label-range",
            )
        for label, name in enumerate(classes):
            found = files_below(part / name) if (part / name).is_dir() else []
            files.extend(found)
            labels.extend([label] * len(found))
        cut = cut or len(files)
    return files, np.asarray(labels, dtype=np.int64), cut


def _owners(root: Path, files: Sequence[Path]) -> list[tuple[str, str]]:
    """Return (patient, hospital) of each file from `patients.csv`, or nothing without that file."""
    table = root / "patients.csv"
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        columns = reader.fieldnames or []
        for column in ("file", "patient"):
            if column not in columns:
                raise DataError(
                    f"{table}: no column {column!r}; it has {', '.join(columns)}",
                    code="missing-column",
                )
        listed = {row["file"]: (row["patient"], row.get("hospital") or "") for row in reader}
    owners = []
    for file in files:
        name = file.relative_to(root).as_posix()
        if name not in listed:
            raise DataError(f"{table}: no row for {name}", code="missing-row")
        owners.append(listed[name])
    return owners
