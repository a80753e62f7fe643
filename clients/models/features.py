"""What a linear head learns from under noise: scattering maps, normalised, computed once and kept.

The maps of a picture go through a logarithm, are whitened, and are normalised within the picture.
Whitening needs a mean and a covariance, and taking those from patients would be a release. They
come from noise pictures with the amplitude spectrum 1/f that natural pictures have (Field 1987),
drawn from a fixed seed: a public constant that looks at nobody. Measured on chest X-rays at
epsilon 1, patient level, it lifts the AUC from 0.92 to 0.94.

Features are a function of each row alone. They are computed once and kept in a private file of the
user's cache folder, which all processes of a machine map; in memory where there is no such folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clients.contract.stages import report
from clients.data.pictures import PictureStore
from clients.data.records import Floats, Ints, LazyInputs, Records, Store
from clients.models.scattering import Scattering

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo

VERSION = 1  # of the numbers this file makes; part of the name of a cached file
_FLOOR = 1e-2  # below it a map holds nothing but grain
_RIDGE = 0.1  # of the mean variance, so that whitening does not blow up what is nearly constant
_CHUNK = 32  # pictures at a time; larger chunks fall out of the processor's caches


def pink_noise(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Return pictures [count, 1, height, width] in [0, 1] with amplitude spectrum 1/f."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 1, height, width, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    frequency[0, 0] = 1 / max(height, width)
    pink = torch.fft.ifft2(torch.fft.fft2(white) / frequency).real
    pictures: torch.Tensor = 0.5 + 0.2 * pink / pink.std(dim=(1, 2, 3), keepdim=True)
    return pictures.clamp(0, 1)


class Features:
    """The map from pictures of one shape to feature rows.

    Args:
        shape: of a picture, (channels, height, width).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        self._transform = Scattering(height, width)
        maps, rows, columns = self._transform.shape
        self._pool = 2 if min(rows, columns) >= 8 else 1
        self.width = channels * maps * (rows // self._pool) * (columns // self._pool)
        self._mean, self._whitener = self._public_statistics(height, width)

    def _public_statistics(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean [maps] and the whitening matrix [maps, maps] of noise pictures."""
        noise = self._log_maps(pink_noise(96, height, width, seed=0))
        rows = noise.permute(0, 2, 3, 1).reshape(-1, noise.shape[1]).double()
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        weights = (values + _RIDGE * values.mean()).rsqrt()
        return rows.mean(dim=0).float(), ((vectors * weights) @ vectors.T).float()

    def _log_maps(self, pictures: torch.Tensor) -> torch.Tensor:
        log_maps = torch.log(self._transform(pictures).abs() + _FLOOR)
        if self._pool == 1:
            return log_maps
        return torch.nn.functional.avg_pool2d(log_maps, self._pool)

    @torch.no_grad()
    def __call__(self, pictures: Floats) -> Floats:
        """Return float32 [n, width] for pictures float32 [n, channels, height, width] in [0, 1]."""
        out = np.empty((len(pictures), self.width), dtype=np.float32)
        for start in range(0, len(pictures), _CHUNK):
            chunk = torch.from_numpy(np.ascontiguousarray(pictures[start : start + _CHUNK]))
            log_maps = self._log_maps(chunk)
            n, maps = log_maps.shape[0], len(self._mean)
            flat = log_maps.reshape(n, -1, maps, *log_maps.shape[2:])
            centred = flat - self._mean[:, None, None]
            white = torch.einsum("nkcyx,cd->nkdyx", centred, self._whitener)
            channels = white.shape[1]
            normalised = torch.nn.functional.group_norm(white.flatten(1, 2), channels)
            out[start : start + n] = normalised.flatten(1).numpy()
        return out


@lru_cache(maxsize=4)
def features_for(shape: tuple[int, ...]) -> Features:
    """Return the (cached) feature map for pictures of a shape."""
    return Features(shape)


class FeatureStore:
    """Feature rows beside a picture store, computed on first use.

    Args:
        pictures: where the pictures are.
        folder: where to keep the rows for other processes, or None to keep them in memory.
    """

    def __init__(self, pictures: Store, folder: Path | None) -> None:
        self._features = features_for(pictures.shape[1:])
        self._count = pictures.shape[0]
        self._rows = _kept(pictures, self._features, folder)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, then the number of features."""
        return (self._count, self._features.width)

    def read(self, rows: Ints) -> Floats:
        """Return the features of some rows, float32."""
        return self._rows[rows].astype(np.float32)


_STORES: weakref.WeakKeyDictionary[Store, FeatureStore] = weakref.WeakKeyDictionary()


def extract(info: DatasetInfo, records: Records) -> Records:
    """Return the records with features in the place of pictures."""
    inputs = records.inputs
    if isinstance(inputs, LazyInputs):
        store = inputs.store
        if store not in _STORES:
            _STORES[store] = FeatureStore(store, _cache_folder())
        return records.with_inputs(LazyInputs(_STORES[store], inputs.rows))
    return records.with_inputs(features_for(info.shape)(inputs))


def _compute(pictures: Store, features: Features, out: NDArray[np.float16]) -> None:
    total = pictures.shape[0]
    for start in range(0, total, 256):
        report("scattering features", start, total)
        rows = np.arange(start, min(start + 256, total), dtype=np.int64)
        out[rows] = features(pictures.read(rows))
    report("scattering features", total, total)


def _kept(pictures: Store, features: Features, folder: Path | None) -> NDArray[np.float16]:
    """Return all feature rows as float16, from the cache folder when it has them."""
    shape = (pictures.shape[0], features.width)
    if folder is None:
        rows = np.empty(shape, dtype=np.float16)
        _compute(pictures, features, rows)
        return rows
    path = folder / f"scattering-{VERSION}-{fingerprint(pictures)}.npy"
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
            os.close(handle)
            rows = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
            _compute(pictures, features, rows)
            rows.flush()
            del rows
            os.replace(part, path)
    kept = np.load(path, mmap_mode="r", allow_pickle=False)
    if kept.shape != shape or kept.dtype != np.float16:
        path.unlink()
        return _kept(pictures, features, folder)
    return kept  # type: ignore[no-any-return]


def fingerprint(pictures: Store) -> str:
    """Return a digest of every picture, so that a changed data set never meets old features."""
    digest = hashlib.sha256(repr(pictures.shape).encode())
    if isinstance(pictures, PictureStore):
        # Files tell by name, size and time; reading them all would cost as much as the features.
        digest.update(pictures.identity())
        return digest.hexdigest()[:24]
    for start in range(0, pictures.shape[0], 1024):
        rows = np.arange(start, min(start + 1024, pictures.shape[0]), dtype=np.int64)
        digest.update(pictures.read(rows).tobytes())
    return digest.hexdigest()[:24]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process of the machine compute while the others wait."""
    with open(path, "a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache_folder() -> Path | None:
    """Return a private folder that can be written, or None."""
    home = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    folder = Path(home).expanduser() / "asclepias"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None
