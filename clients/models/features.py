"""What a linear head learns from under noise: scattering maps, normalised.

The maps of a picture go through a logarithm, are whitened, and are normalised within the picture.
Whitening needs a mean and a covariance, and taking those from patients would be a release. They
come from noise pictures with the amplitude spectrum 1/f that natural pictures have (Field 1987),
drawn from a fixed seed: a public constant that looks at nobody. Measured on chest X-rays at
epsilon 1, patient level, it lifts the AUC from 0.92 to 0.94.

Features are a function of each row alone, computed once and kept (`kept_features`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from clients.data.records import Floats
from clients.models.kept_features import BLOCK
from clients.models.scattering import Scattering

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo

_FLOOR = 1e-2  # below it a map holds nothing but grain
_RIDGE = 0.1  # of the mean variance, so that whitening does not blow up what is nearly constant


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
        pool: places per side that are averaged into one; 0 for 2 where there are 8 and more.
        seen: noise pictures that mean and covariance are taken from.
    """

    identity = "scattering-1"
    title = "scattering features"

    def __init__(self, shape: tuple[int, ...], *, pool: int = 0, seen: int = 96) -> None:
        channels, height, width = shape
        self.transform = Scattering(height, width)
        maps, rows, columns = self.transform.shape
        self.pool = pool or (2 if min(rows, columns) >= 8 else 1)
        self._seen = seen
        self.width = channels * maps * (rows // self.pool) * (columns // self.pool)
        self.shape = (self.width,)
        self.mean, self.whitener = self._public_statistics(height, width)

    def _public_statistics(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean [maps] and the whitening matrix [maps, maps] of noise pictures."""
        noise = self._logarithm(self.transform(pink_noise(self._seen, height, width, seed=0)))
        rows = noise.permute(0, 2, 3, 1).reshape(-1, noise.shape[1]).double()
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        weights = (values + _RIDGE * values.mean()).rsqrt()
        return rows.mean(dim=0).float(), ((vectors * weights) @ vectors.T).float()

    def _logarithm(self, scattered: torch.Tensor) -> torch.Tensor:
        log_maps = torch.log(scattered.abs() + _FLOOR)
        if self.pool == 1:
            return log_maps
        return torch.nn.functional.avg_pool2d(log_maps, self.pool)

    @torch.no_grad()
    def __call__(self, pictures: Floats) -> Floats:
        """Return float32 [n, width] for pictures float32 [n, channels, height, width] in [0, 1].

        Libraries add up one picture's products in another order than several's. So none is computed
        alone: whoever is taken out would else move the features of who is left over by it.
        """
        out = np.empty((len(pictures), self.width), dtype=np.float32)
        for start in range(0, len(pictures), BLOCK):
            chunk = torch.from_numpy(np.ascontiguousarray(pictures[start : start + BLOCK]))
            together = chunk if len(chunk) > 1 else torch.cat([chunk, chunk])
            rows = self.of_maps(self.transform(together))[: len(chunk)]
            out[start : start + len(chunk)] = rows.numpy()
        return out

    def of_maps(self, scattered: torch.Tensor) -> torch.Tensor:
        """Return feature rows [n, width] of what `transform` makes of pictures."""
        log_maps = self._logarithm(scattered)
        n, maps = log_maps.shape[0], len(self.mean)
        flat = log_maps.reshape(n, -1, maps, *log_maps.shape[2:])
        centred = flat - self.mean[:, None, None]
        white = torch.einsum("nkcyx,cd->nkdyx", centred, self.whitener)
        channels = white.shape[1]
        return torch.nn.functional.group_norm(white.flatten(1, 2), channels).flatten(1)


@lru_cache(maxsize=4)
def features_for(shape: tuple[int, ...]) -> Features:
    """Return the (cached) feature map for pictures of a shape."""
    return Features(shape)


def feature_map(info: DatasetInfo) -> Features:
    """Return the features that the model `scattering` learns from."""
    return features_for(info.shape)
