"""Two-order wavelet scattering: a fixed, published transform that makes private learning cheap.

Nothing here is learnt, so it costs no privacy: every picture goes through the same Morlet wavelets,
a modulus, the same wavelets again, and a blur (Mallat 2012, "Group invariant scattering"; Bruna and
Mallat 2013, "Invariant scattering convolution networks"). `features` makes of it what a linear head
learns from; that such features beat learnt ones under noise is Tramèr and Boneh (2021),
"Differentially private learning needs better features".

    Scattering(64, 64)(pictures)     # [n, channels, 64, 64] -> [n, channels * 89, 8, 8]
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

ANGLES = 8


def scales_for(height: int, width: int) -> int:
    """Return J: each scale halves the map, and at least a 7 x 7 map should be left."""
    return 3 if min(height, width) >= 48 else 2


def channels_of(scales: int, angles: int = ANGLES) -> int:
    """Return the number of maps: 1 + J L + L^2 (second order between the two coarsest scales)."""
    return 1 + scales * angles + angles * angles


def _gabor(size: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> Complex:
    """Sample a Gabor function on a torus: complex [height, width], its envelope sums to one."""
    height, width = size
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    curve = turn @ np.diag([1.0, slant**2]) @ turn.T / (2 * sigma**2)
    total = np.zeros(size, dtype=np.complex128)
    for wrap_y in range(-2, 3):
        for wrap_x in range(-2, 3):
            y, x = np.mgrid[
                wrap_y * height : (wrap_y + 1) * height, wrap_x * width : (wrap_x + 1) * width
            ]
            form = curve[0, 0] * x * x + (curve[0, 1] + curve[1, 0]) * x * y + curve[1, 1] * y * y
            phase = xi * (x * math.cos(theta) + y * math.sin(theta))
            total += np.exp(-form + 1j * phase)
    return np.asarray(total * slant / (2 * math.pi * sigma**2))


def _morlet(size: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> Complex:
    """Sample a Morlet wavelet: a Gabor, less the part of its envelope that makes its mean zero."""
    wave = _gabor(size, sigma, theta, xi, slant)
    envelope = _gabor(size, sigma, theta, 0.0, slant)
    return np.asarray(wave - envelope * (wave.sum() / envelope.sum()))


def fold(spectrum: torch.Tensor, by: int) -> torch.Tensor:
    """Subsample in space by averaging the spectrum's aliases: [..., h, w] -> [..., h/by, w/by]."""
    if by == 1:
        return spectrum
    *front, height, width = spectrum.shape
    parts = spectrum.reshape(*front, by, height // by, by, width // by)
    folded: torch.Tensor = parts.mean(dim=(-4, -2))
    return folded


def _wavelets(size: tuple[int, int], scale: int, resolution: int) -> torch.Tensor:
    """Return the Fourier transforms (real) of one scale's wavelets, [angles, h / 2^r, w / 2^r].

    Centre frequency 3 pi / 4, bandwidth 0.8 and slant 4 / L are those of Andreux et al. (2020),
    "Kymatio".
    """
    waves = [
        _morlet(
            size,
            0.8 * 2**scale,
            (ANGLES - ANGLES // 2 - 1 - angle) * math.pi / ANGLES,
            3 * math.pi / 4 / 2**scale,
            4 / ANGLES,
        )
        for angle in range(ANGLES)
    ]
    spectra = torch.from_numpy(np.fft.fft2(np.stack(waves)).real).to(torch.float32)
    # A filter sampled every 2^r pixels in both directions must weigh 4^r times as much.
    folded: torch.Tensor = fold(spectra, 2**resolution)
    return torch.mul(folded, 4**resolution)


def _window(side: int, padded: int, pad: int, scales: int, resolution: int) -> torch.Tensor:
    """Return the matrix [side / 2^J, padded / 2^r] that blurs, subsamples and cuts the padding."""
    centres = pad + 2**scales * np.arange(side // 2**scales)
    places = 2**resolution * np.arange(padded // 2**resolution)
    far = np.abs(centres[:, None] - places[None, :])
    far = np.minimum(far, padded - far)
    weights = np.exp(-0.5 * (far / (0.8 * 2 ** (scales - 1))) ** 2)
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(torch.float32)


class Scattering:
    """The transform for pictures of one size.

    The second order is taken between the two coarsest scales only: the finest detail's own envelope
    costs most of the time and, measured on chest X-rays, adds nothing.

    Args:
        height: of the pictures, in pixels.
        width: likewise.
    """

    def __init__(self, height: int, width: int) -> None:
        scales = self.scales = scales_for(height, width)
        step = 2**scales
        # Room for the widest filter on both sides, and a whole number of steps.
        padded = [(side + step) // step * step + step for side in (height, width)]
        self.size = (padded[0], padded[1])
        top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
        self.room = (left, padded[1] - width - left, top, padded[0] - height - top)
        self.shape = (channels_of(scales), height // step, width // step)
        self.first = [_wavelets(self.size, j, 0) for j in range(scales)]
        self.second = _wavelets(self.size, scales - 1, scales - 2)
        self.rows = [_window(height, padded[0], top, scales, r) for r in range(scales)]
        self.columns = [_window(width, padded[1], left, scales, r) for r in range(scales)]

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the scattering maps of each channel.

        Args:
            pictures: float32 [n, channels, height, width].

        Returns:
            float32 [n, channels * maps, height // 2^J, width // 2^J].
        """
        n, channels = pictures.shape[:2]
        padded = self.padded(pictures)
        spectrum = torch.fft.fft2(padded)
        maps = [self.blur(padded, 0)]
        for scale, waves in enumerate(self.first):
            ring = torch.fft.ifft2(fold(spectrum * waves, 2**scale)).abs()
            maps.append(self.blur(ring, scale))
            if scale == self.scales - 2:
                deeper = torch.fft.fft2(ring).unsqueeze(2) * self.second
                inner = torch.fft.ifft2(fold(deeper, 2)).abs().flatten(1, 2)
                last = self.blur(inner, self.scales - 1)
        joined = torch.cat([*maps, last], dim=1)
        return joined.reshape(n, channels * self.shape[0], *self.shape[1:])

    def padded(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return each channel by itself, with room around it: [n * channels, 1, h', w']."""
        wide = torch.nn.functional.pad(pictures, self.room, mode="reflect")
        return wide.reshape(-1, 1, *self.size)

    def blur(self, maps: torch.Tensor, resolution: int) -> torch.Tensor:
        """Average under a Gaussian window around each place of the last grid."""
        return torch.matmul(torch.matmul(self.rows[resolution], maps), self.columns[resolution].T)
