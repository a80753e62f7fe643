"""A hospital's records behind input noise (``privacy.input-laplace``).

The noise is drawn once for a hospital and a training: if every round drew anew, its mean over the
rounds would be the picture. What is kept is the stream's key, in the hospital's own folder, so that
a restarted process sees the same noise; the noisy records are cached in memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from accounting.input_noise import LEVELS, InputNoise, input_noise
from accounting.randomness import Stream
from clients.data.records import Floats, Ints, LazyInputs, Records
from clients.models import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.data import DatasetInfo
    from clients.settings import Settings
    from clients.site import Site

_ROWS = 256  # rows at a time
_KEY_BYTES = 32

#: Per process: prepared noisy records by hospital's folder, training and scale.
_KEPT: dict[tuple[str, str, float], Records] = {}


def training_records(
    site: Site, settings: Settings, training: str, info: DatasetInfo, records: Records
) -> Records:
    """Return what a model learns from: the records, behind noise if asked for, as it wants them."""
    noise = input_noise(settings.privacy.input_laplace, info.shape)
    if noise is None:
        return prepare(settings, info, records)
    place = (str(site.folder), training, noise.scale)
    if place not in _KEPT:
        store = NoisyStore(records, noise, info.input_range, _stream(site, settings, training))
        noisy = records.with_inputs(LazyInputs(store))
        prepared = prepare(settings, info, noisy.with_inputs(np.asarray(noisy.inputs)))
        # Features are kept as they are; raw inputs stay levels of two bytes.
        _KEPT[place] = prepared if prepared.inputs.shape != noisy.inputs.shape else noisy
    return _KEPT[place]


def judged_records(settings: Settings, info: DatasetInfo, records: Records) -> Records:
    """Return public records as a model that learnt behind noise will meet them: behind noise.

    They are public, so their noise is of the public seed and protects nobody.
    """
    noise = input_noise(settings.privacy.input_laplace, info.shape)
    if noise is None:
        return prepare(settings, info, records)
    stream = Stream.from_seed(max(settings.run.seed, 0), "input noise of public records")
    store = NoisyStore(records, noise, info.input_range, stream)
    return prepare(settings, info, records.with_inputs(np.asarray(LazyInputs(store))))


class NoisyStore:
    """Noisy rows in memory, 16-bit levels of the public range."""

    def __init__(
        self, records: Records, noise: InputNoise, input_range: tuple[float, float], stream: Stream
    ) -> None:
        low, high = input_range
        self._low, self._width = low, high - low
        self.shape = tuple(records.inputs.shape)
        self._levels: NDArray[np.int16] = np.empty(self.shape, dtype=np.int16)
        for start in range(0, len(records), _ROWS):
            rows = np.asarray(records.inputs[start : start + _ROWS], dtype=np.float64)
            self._levels[start : start + len(rows)] = noise.perturb(
                (rows - self._low) / self._width, stream
            )

    def read(self, rows: Ints) -> Floats:
        """Return noisy rows in the units of the inputs, float32."""
        chosen = self._levels[rows].astype(np.float32)
        return np.asarray(self._low + self._width / LEVELS * chosen, dtype=np.float32)


def _stream(site: Site, settings: Settings, training: str) -> Stream:
    """Return the one stream of this hospital's input noise in a training."""
    if settings.seeded:
        return Stream.from_seed(settings.run.seed, site.name, "input noise")
    name = f"input-noise-{training}.key"
    if site.read_secret(name) is None:
        site.write_secret(name, os.urandom(_KEY_BYTES))
    key = site.read_secret(name)
    assert key is not None
    return Stream(key, seeded=False)
