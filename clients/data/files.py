"""Finding and opening the files of a data set, with errors that tell a person what to do next."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.dialect import identifier
from clients.data.errors import DataError
from clients.data.reading_log import ReadingLog

#: Largest table that is read, and most that the arrays of a file may hold unpacked.
MOST_TABLE_BYTES = 2 * 1024**3
MOST_ARRAY_BYTES = 32 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Location:
    """What a loader is asked for.

    Attributes:
        variant: what follows the colon in the data set's name.
        data_dir: folder of files; "" for the variable ASCLEPIAS_DATA.
        declaration: file of the declaration; "" for the one beside the data.
        image_size: height and width that picture files are brought to, pixels.
        declared: whether what is public must be declared: the records are a hospital's own.
        unconfirmed: whether ranges may be used that were drafted from the data and not confirmed.
        log: where what cannot be read is counted.
    """

    variant: str = ""
    data_dir: str = ""
    declaration: str = ""
    image_size: int = 64
    declared: bool = False
    unconfirmed: bool = False
    log: ReadingLog = field(default_factory=ReadingLog)

    def declared_in(self, beside: Path) -> Path:
        """Return the file of the declaration, which usually lies beside the data."""
        return Path(self.declaration) if self.declaration else beside

    def named(self) -> Path:
        """Return the path that is named, seen from the working folder.

        A hospital's own records lie where its site.toml says: none are taken from wherever a
        command happens to be typed, though they have the same name.
        """
        named = Path(self.variant).expanduser()
        placed = self.declared and self.data_dir
        return Path(self.data_dir).expanduser() / named if placed else named


def data_folder(data_dir: str | Path | None) -> Path | None:
    """Return the folder to look in: the setting, else the variable ASCLEPIAS_DATA, else None."""
    chosen = str(data_dir or "") or os.environ.get("ASCLEPIAS_DATA", "")
    return Path(chosen).expanduser() if chosen else None


def find(
    data_dir: str | Path | None, names: Sequence[str | Path], *, source: str = "", md5: str = ""
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


def read_bounded(path: Path, most: int = MOST_TABLE_BYTES) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: `missing-file` or `unreadable`: it cannot be read at all, or is too large.
    """
    try:
        size = path.stat().st_size
        if size <= most:
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error})", code="unreadable") from error
    raise DataError(f"{path} has {size} bytes, at most {most} are read", code="unreadable")


#: What a damaged file of arrays raises.
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
)


def open_npz(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an npz file, never unpickling anything.

    Their sizes are known from the file's table of contents before anything is unpacked.

    Raises:
        DataError: `unreadable` for a damaged file, or one that holds too much; `missing-column` for
            an absent array.
    """
    try:
        _check_archive(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            absent = [key for key in keys if key not in archive.files]
            if absent:
                raise DataError(
                    f"{path}: no array {absent[0]!r}; it holds {', '.join(archive.files)}",
                    code="missing-column",
                )
            unpacked = sum(member.file_size for member in archive.zip.infolist())
            if unpacked > MOST_ARRAY_BYTES:
                raise DataError(
                    f"{path}: its arrays have {unpacked} bytes, at most {MOST_ARRAY_BYTES} are "
                    "read",
                    code="unreadable",
                )
            return {key: archive[key] for key in keys}
    except _DAMAGED as error:
        raise DataError(f"{path}: not a readable npz file ({error})", code="unreadable") from error


def npz_keys(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an npz file."""
    try:
        _check_archive(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return tuple(archive.files)
    except _DAMAGED as error:
        raise DataError(f"{path}: not a readable npz file ({error})", code="unreadable") from error


def _check_archive(path: Path) -> None:
    """Insist on an archive: of another file numpy says that it should be unpickled, or reads it."""
    if not zipfile.is_zipfile(path):
        path.open("rb").close()
        raise zipfile.BadZipFile("it is no archive of arrays, or is cut off; np.savez writes one")


def column(path: Path, key: str, values: NDArray[Any]) -> NDArray[Any]:
    """Accept a column of shape (n,) or (n, 1), as (n,); refuse others (`shape`)."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{path}: {key} has shape {values.shape}, expected (n,) or (n, 1)", code="shape"
        )
    return values


def as_texts(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return the texts of an array; bytes that are none are written out, one record's alone."""
    if values.dtype.kind == "S":
        return np.asarray(np.char.decode(values, "utf-8", "backslashreplace"))
    return values.astype(str)


def label_numbers(values: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return class numbers, int64 [n]; -1 for what is no class.

    Numbers are class numbers, unless the classes are numbers themselves: then these are meant.
    Texts are names of classes, or else numbers: one label that is none makes texts of all others.
    """
    numbers = all(map(_is_number, classes))
    if values.dtype.kind in "biuf":
        meant = _numbers(classes) if numbers else np.arange(len(classes))
        equal = values.astype(np.float64)[:, None] == meant[None]
    else:
        texts = np.asarray([identifier(one) for one in as_texts(values).tolist()], dtype=str)
        equal = texts[:, None] == np.asarray(classes, dtype=str)[None]
        if not numbers:
            numbered = texts[:, None] == np.arange(len(classes)).astype(str)[None]
            equal = np.where(equal.any(axis=1)[:, None], equal, numbered)
    return np.where(equal.any(axis=1), equal.argmax(axis=1), -1).astype(np.int64)


def _numbers(names: Sequence[str]) -> NDArray[np.float64]:
    return np.asarray([float(name) for name in names])


def _is_number(name: str) -> bool:
    return name.lstrip("-").isascii() and name.lstrip("-").isdigit()
