"""A hospital's records behind input noise (``privacy.input-laplace``).

The noise is drawn once for a hospital's cohort: if every round, or every training, drew anew, the
mean over them would be the picture. What is kept is a secret key in the hospital's own folder, for
each scale and shape of records; whoever answers for the hospital keeps the noisy records.

Each record has a stream of its own, derived from the key and the record itself. So whoever joins or
leaves changes nobody else's noise, in whatever order records lie; a record that is corrected takes
fresh noise, never the old one, whose difference would show the correction; and records that are
equal are told apart by their number among their equals.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accounting.input_noise import LEVELS, InputNoise, input_noise
from accounting.randomness import Stream
from clients.data.records import Floats, Ints, LazyInputs, Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.data import DatasetInfo

#: Brings records to what a model wants.
Prepare = Callable[[Records], Records]
#: Opens the stream of a record, from its digest and its number among its equals.
Streams = Callable[[bytes, int], Stream]

_ROWS = 256  # rows at a time

#: Prepared noisy records of one training, by hospital's folder and scale.
KeptRecords = MutableMapping[tuple[Path, float], Records]


def training_records(
    settings: Settings,
    info: DatasetInfo,
    records: Records,
    *,
    prepare: Prepare,
    folder: Path,
    kept: KeptRecords,
    streams: Callable[[InputNoise], Streams],
) -> Records:
    """Return what a model learns from: the records, behind noise if asked for, as it wants them.

    Args:
        settings: reads ``privacy.input-laplace``.
        info: public facts of the data set.
        records: the hospital's own.
        prepare: brings records to what the model wants.
        folder: the hospital's own.
        kept: what a process has made ready in this training; noise is drawn if it is not there.
        streams: accounts for the noise, and gives the streams of this hospital's records.
    """
    noise = input_noise(settings.privacy.input_laplace, info.shape)
    if noise is None:
        return prepare(records)
    place = (folder, noise.scale)
    if place not in kept:
        store = NoisyStore(records, noise, info.input_range, streams(noise))
        noisy = records.with_inputs(LazyInputs(store))
        prepared = prepare(noisy.with_inputs(np.asarray(noisy.inputs)))
        # Features are kept as they are; raw inputs stay levels of two bytes.
        kept[place] = prepared if prepared.inputs.shape != noisy.inputs.shape else noisy
    return kept[place]


def judged_records(
    settings: Settings, info: DatasetInfo, records: Records, *, prepare: Prepare
) -> Records:
    """Return public records as a model that learnt behind noise will meet them: behind noise.

    They are public, so their noise is of the public seed and protects nobody.
    """
    noise = input_noise(settings.privacy.input_laplace, info.shape)
    if noise is None:
        return prepare(records)
    seed = settings.public_seed

    def streams(digest: bytes, number: int) -> Stream:
        return Stream.from_seed(seed, "input noise of public records", digest, number)

    store = NoisyStore(records, noise, info.input_range, streams)
    return prepare(records.with_inputs(np.asarray(LazyInputs(store))))


class NoisyStore:
    """Noisy rows in memory, 16-bit levels of the public range."""

    def __init__(
        self,
        records: Records,
        noise: InputNoise,
        input_range: tuple[float, float],
        streams: Streams,
    ) -> None:
        low, high = input_range
        self._low, self._width = low, high - low
        self.shape = tuple(records.inputs.shape)
        self._levels: NDArray[np.int16] = np.zeros(self.shape, dtype=np.int16)
        self._unreadable = np.zeros(len(records), dtype=bool)
        equals: Counter[bytes] = Counter()
        for start in range(0, len(records), _ROWS):
            rows = np.asarray(records.inputs[start : start + _ROWS], dtype=np.float64)
            unreadable = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
            self._unreadable[start : start + _ROWS] = unreadable
            levels = noise.levels((rows[~unreadable] - self._low) / self._width)
            for row, exact in zip(start + np.flatnonzero(~unreadable), levels, strict=True):
                digest = hashlib.sha256(exact.tobytes()).digest()
                self._levels[row] = noise.perturb_levels(exact, streams(digest, equals[digest]))
                equals[digest] += 1

    def read(self, rows: Ints) -> Floats:
        """Return noisy rows in the units of the inputs, float32; NaN where none could be read."""
        chosen = self._levels[rows].astype(np.float32)
        noisy = np.asarray(self._low + self._width / LEVELS * chosen, dtype=np.float32)
        noisy[self._unreadable[rows]] = np.nan
        return noisy
