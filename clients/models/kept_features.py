"""Features of pictures, computed once and kept: in a file, or in the memory of a process.

Features of a patient's pictures are a patient's. Whoever asks for them says where they are kept: a
hospital in its own private folder, a simulation or a server, whose records are public, in the
user's cache. A folder that takes nothing decides on no answer: features are then computed as they
are asked for, the same to the bit, and each process does it for itself. So it is with features that
would be too large: whoever submits a run chooses what is computed, and fills neither disk nor
memory with it. What a hospital's folder holds of pictures as they were before somebody withdrew, or
was corrected, is removed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import math
import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.contract.stages import report
from clients.data.pictures import PictureStore
from clients.data.records import Floats, Ints, LazyInputs, Records, Store
from crypto.whole_file import locked, write_private

logger = logging.getLogger(__name__)

#: Name of a file of features, or its lock: what is computed, of which pictures, in which form.
_FILE = re.compile(r".+-([0-9a-f]{24})(-[0-9a-f]{8})?\.(npy|lock)")
#: Files of features of the same pictures that a hospital keeps: a run chooses what is computed.
MOST_FILES = 8
#: The share of a disk's free bytes that one file may take: eight leave a tenth of them.
MOST_OF_DISK = 0.25
#: Bytes of one file, and of the features that a process holds where there is none.
MOST_KEPT, MOST_HELD = 16 * 2**30, 2**30

#: Pictures whose features are computed together; larger blocks fall out of the processor's caches.
BLOCK = 32
_REPORTED = 256  # pictures between two reports of how far it is

#: Names the folder where features are kept, once it is needed; None: there is none.
Keep = Callable[[], Path | None]


class FeatureMap(Protocol):
    """Fixed features: a public constant function of each record alone.

    Attributes:
        identity: what decides on the numbers, as a part of a file's name.
        title: what is computed, for people.
        shape: of the features of one record.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def __call__(self, pictures: Floats, /) -> Floats:
        """Return float32 ``[n, *shape]`` for pictures, float32; all NaN where one is not finite."""


class FeatureRows:
    """Feature rows of a picture store: all in a file, or those in memory that were asked for.

    Where they fit in neither, they are computed whenever they are asked for.

    Args:
        pictures: where the pictures are; not kept.
        compute: what is computed of them.
        keep: folder of the file; None: memory alone.

    Attributes:
        of: a digest of the pictures as they are; "" where nothing is kept.
    """

    def __init__(self, pictures: Store, compute: FeatureMap, keep: Path | None) -> None:
        count = pictures.shape[0]
        self.shape: tuple[int, ...] = (count, *compute.shape)
        self._compute = compute
        name = "" if keep is None else fingerprint(pictures)
        self.of = name.partition("-")[0]
        kept = None if keep is None else _kept(pictures, compute, keep, name)
        self._rows = kept
        if kept is None and _bytes(self.shape) <= MOST_HELD:
            # Memory that was never written to costs nothing.
            self._rows = np.empty(self.shape, dtype=np.float16)
        self._made = np.full(-(-count // BLOCK), kept is not None)

    def read(self, pictures: Store, rows: Ints) -> Floats:
        """Return the features of some rows of the same store, float32."""
        blocks = np.unique(rows // BLOCK)
        if self._rows is not None:
            for block in blocks[~self._made[blocks]]:
                self._rows[_of_block(block, self.shape[0])] = self._block(pictures, block)
                self._made[block] = True
            return self._rows[rows].astype(np.float32)
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.float16)
        for block in blocks:
            at = np.flatnonzero(rows // BLOCK == block)
            found[at] = self._block(pictures, block)[rows[at] - block * BLOCK]
        return found.astype(np.float32)

    def _block(self, pictures: Store, block: int) -> Floats:
        """Return the features of pictures that are computed together, always the same ones."""
        return self._compute(pictures.read(_of_block(block, self.shape[0])))


def _of_block(block: int, count: int) -> Ints:
    return np.arange(block * BLOCK, min((block + 1) * BLOCK, count))


class FeatureStore:
    """Features in the place of the pictures of a store."""

    def __init__(self, pictures: Store, rows: FeatureRows) -> None:
        self._pictures = pictures
        self._rows = rows
        self.shape: tuple[int, ...] = rows.shape

    @property
    def of(self) -> str:
        """A digest of the pictures as they are; "" where no features are kept."""
        return self._rows.of

    def read(self, rows: Ints) -> Floats:
        """Return the features of some rows, float32."""
        return self._rows.read(self._pictures, rows)


def user_cache() -> Path | None:
    """Return the user's own cache folder, for features of public records; None if there is none."""
    home = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    try:
        folder = Path(home).expanduser() / "asclepias"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return None
    return folder


_ROWS: weakref.WeakKeyDictionary[Store, dict[str, FeatureRows]] = weakref.WeakKeyDictionary()


def with_features(records: Records, compute: FeatureMap, keep: Keep | None) -> Records:
    """Return the records with features in the place of pictures.

    Args:
        records: pictures.
        compute: what is computed of each.
        keep: names the folder where features of all pictures of their store are kept; None: memory.
    """
    inputs = records.inputs
    if not isinstance(inputs, LazyInputs):
        return records.with_inputs(compute(inputs))
    store = inputs.store
    made = _ROWS.setdefault(store, {})
    if compute.identity not in made:
        folder = None if keep is None else keep()
        made[compute.identity] = FeatureRows(store, compute, folder)
    features = FeatureStore(store, made[compute.identity])
    return records.with_inputs(LazyInputs(features, inputs.rows))


def forget_others(folder: Path, records: Records) -> None:
    """Remove features that are not of a hospital's pictures as they are now.

    Args:
        folder: the hospital's own, in which no others' features lie.
        records: as they were prepared; where they are no kept features, nothing is done.
    """
    store = records.inputs.store if isinstance(records.inputs, LazyInputs) else None
    if not isinstance(store, FeatureStore) or not store.of:
        return
    found = [(path, match[1]) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    gone = [path for path, of in found if of != store.of]
    with suppress(OSError):
        same = [path for path, of in found if of == store.of and path.suffix == ".npy"]
        newest = sorted(same, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        gone += [one for path in newest[MOST_FILES:] for one in (path, path.with_suffix(".lock"))]
    for path in gone:
        with suppress(OSError):
            path.unlink()


def _kept(
    pictures: Store, compute: FeatureMap, keep: Path, name: str
) -> NDArray[np.float16] | None:
    """Return all rows from the file, which is written if it is not there; None: it cannot be."""
    path = keep / f"{compute.identity}-{name}.npy"
    shape = (pictures.shape[0], *compute.shape)
    try:
        with locked(path.with_suffix(".lock")):
            if (found := _read(path, shape)) is None:
                _require_room(keep, _bytes(shape))
                write_private(path, _pieces(pictures, compute), durable=False)
                found = _read(path, shape)
            with suppress(OSError):
                os.utime(path)  # what is in use is not what goes where there are too many
            return found
    except OSError as error:
        logger.warning("features cannot be kept, every process computes them: %s", error.strerror)
        return None


def _require_room(folder: Path, size: int) -> None:
    """Refuse a file that would be too large.

    Raises:
        OSError: it would; as a disk does that has no room left.
    """
    most = min(MOST_KEPT, int(MOST_OF_DISK * shutil.disk_usage(folder).free))
    if size > most:
        raise OSError(errno.EFBIG, f"they take {size} bytes, of which at most {most} are kept here")


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * math.prod(shape)


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except (FileNotFoundError, ValueError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float16 else None


def _pieces(pictures: Store, compute: FeatureMap) -> Iterator[bytes]:
    """Yield the bytes of a file of all rows."""
    count = pictures.shape[0]
    head = io.BytesIO()
    form = {"descr": "<f2", "fortran_order": False, "shape": (count, *compute.shape)}
    np.lib.format.write_array_header_1_0(head, form)
    yield head.getvalue()
    for start in range(0, count, BLOCK):
        if start % _REPORTED == 0:
            report(compute.title, start, count)
        rows = np.arange(start, min(start + BLOCK, count), dtype=np.int64)
        yield compute(pictures.read(rows)).astype("<f2").tobytes()
    report(compute.title, count, count)


def fingerprint(pictures: Store) -> str:
    """Return a digest of every picture, so that a changed data set never meets old features.

    Of files that can be brought to any form, the form's digest stands behind it.
    """
    digest = hashlib.sha256(repr(pictures.shape).encode())
    if isinstance(pictures, PictureStore):
        # Files tell by name, size and time; reading them all would cost as much as the features.
        of = hashlib.sha256(pictures.identity()).hexdigest()[:24]
        return f"{of}-{digest.hexdigest()[:8]}"
    for start in range(0, pictures.shape[0], 1024):
        rows = np.arange(start, min(start + 1024, pictures.shape[0]), dtype=np.int64)
        digest.update(pictures.read(rows).tobytes())
    return digest.hexdigest()[:24]
