"""Finding and opening the files of a data set, with errors that tell a person what to do next."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Location:
    """What a loader is asked for.

    Attributes:
        variant: what follows the colon in the data set's name.
        data_dir: folder of files; "" for the variable ASCLEPIAS_DATA.
        image_size: height and width that picture files are brought to, pixels.
    """

    variant: str = ""
    data_dir: str = ""
    image_size: int = 64


def data_folder(data_dir: str | Path | None) -> Path | None:
    """Return the folder to look in: the setting, else the variable ASCLEPIAS_DATA, else None."""
    chosen = str(data_dir or "") or os.environ.get("ASCLEPIAS_DATA", "")
    return Path(chosen).expanduser() if chosen else None


def find(
    data_dir: str | Path | None, names: Sequence[str], *, source: str = "", md5: str = ""
) -> Path:
    """Return the first of `names` (files or folders) that exists in the data folder.

    Raises:
        DataError: `missing-file`, saying where to get it and its md5.
    """
    folder = data_folder(data_dir)
    hint = f" Get it from {source}" if source else ""
    hint += f" (md5 {md5})" if md5 else ""
    if folder is None:
        raise DataError(
            f"{names[0]} is needed, and no data folder is set: give data.dir or ASCLEPIAS_DATA."
            f"{hint}",
            code="missing-file",
        )
    for name in names:
        path = folder / name
        if path.exists():
            return path
    raise DataError(f"{folder / names[0]} does not exist.{hint}", code="missing-file")


@lru_cache(maxsize=64)
def _md5_of(path: str, size: int, changed_ns: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_md5(path: Path, expected: str | Sequence[str], *, source: str = "") -> None:
    """Refuse a file whose content is not the published one (`wrong-md5`)."""
    known = [expected] if isinstance(expected, str) else list(expected)
    state = path.stat()
    found = _md5_of(str(path), state.st_size, state.st_mtime_ns)
    if found not in known:
        raise DataError(
            f"{path}: md5 {found}, expected {' or '.join(known)}: the file is damaged or another "
            f"version.{f' Get it again from {source}' if source else ''}",
            code="wrong-md5",
        )


def open_npz(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an npz file, never unpickling anything.

    Raises:
        DataError: `unreadable` for a damaged file, `missing-column` for an absent array.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            absent = [key for key in keys if key not in archive.files]
            if absent:
                raise DataError(
                    f"{path}: no array {absent[0]!r}; it holds {', '.join(archive.files)}",
                    code="missing-column",
                )
            return {key: archive[key] for key in keys}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: not a readable npz file ({error})", code="unreadable") from error


def npz_keys(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an npz file."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return tuple(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: not a readable npz file ({error})", code="unreadable") from error


def flat_labels(path: Path, key: str, labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Accept labels of shape (n,) or (n, 1); refuse others, and numbers outside 0..classes-1."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{path}: {key} has shape {labels.shape}, expected (n,) or (n, 1)", code="shape"
        )
    if labels.dtype.kind not in "iub" and not np.array_equal(labels, np.rint(labels)):
        raise DataError(
            f"{path}: {key} holds {labels.dtype}, expected whole numbers", code="labels"
        )
    numbers = labels.astype(np.int64)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"{path}: {key} row {row}: {numbers[row]}, expected 0..{classes - 1}",
            code="label-range",
        )
    return numbers
