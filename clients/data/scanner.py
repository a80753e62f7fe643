"""A scanner for each hospital: the same disease looks different on every machine.

Feature shift for pictures: each hospital's pictures pass through its own gain, offset, blur and
grain, drawn once from a public seed. The strength 0 leaves them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.data.errors import DataError
from clients.data.records import DatasetInfo, Floats, Ints, LazyInputs, Records


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How a machine changes a picture with values in [0, 1].

    Attributes:
        gain: contrast about the middle grey.
        offset: brightness.
        blur: standard deviation of a Gaussian blur, pixels.
        grain: standard deviation of the noise of each pixel.
        seed: of the grain; the same row always shows the same grain.
    """

    gain: float
    offset: float
    blur: float
    grain: float
    seed: int

    def scan(self, pictures: Floats, rows: Ints) -> Floats:
        """Return the pictures [n, channels, *space] as this machine shows them."""
        from scipy.ndimage import gaussian_filter

        space = (0, 0, *(self.blur for _ in pictures.shape[2:]))
        seen = gaussian_filter(pictures, space) if self.blur > 0 else pictures
        seen = 0.5 + self.gain * (seen - 0.5) + self.offset
        if self.grain > 0:
            grain = [
                np.random.default_rng([self.seed, int(row)]).standard_normal(
                    pictures.shape[1:], dtype=np.float32
                )
                for row in rows
            ]
            seen = seen + self.grain * np.asarray(grain, dtype=np.float32).reshape(seen.shape)
        return np.asarray(np.clip(seen, 0.0, 1.0), dtype=np.float32)


def scanner_of(hospital: int, *, strength: float, seed: int) -> Scanner:
    """Return a hospital's scanner."""
    generator = np.random.default_rng([seed, 0x5CA7, hospital])
    gain, offset = generator.uniform(-1, 1, size=2)
    blur, grain = generator.uniform(0, 1, size=2)
    return Scanner(
        gain=float(np.exp(0.4 * strength * gain)),
        offset=float(0.15 * strength * offset),
        blur=float(1.0 * strength * blur),
        grain=float(0.05 * strength * grain),
        seed=int(generator.integers(2**31)),
    )


class _Scanned:
    """Some rows of a store, seen through a scanner."""

    def __init__(self, inputs: LazyInputs, scanner: Scanner) -> None:
        self._inputs = inputs
        self._scanner = scanner

    @property
    def shape(self) -> tuple[int, ...]:
        return self._inputs.shape

    def read(self, rows: Ints) -> Floats:
        return self._scanner.scan(self._inputs[rows], self._inputs.rows[rows])


def through_scanners(
    info: DatasetInfo, records: dict[str, Records], *, strength: float, seed: int
) -> dict[str, Records]:
    """Return each hospital's records as its own scanner shows them.

    Raises:
        DataError: the data set is no pictures, or the strength is negative.
    """
    if info.kind not in ("image", "volume") or info.input_range != (0.0, 1.0):
        raise DataError(
            f"partition.shift is for pictures; {info.name} is a {info.kind} data set",
            code="partition",
        )
    if strength < 0:
        raise DataError(f"partition.shift is {strength}, expected 0 or above", code="partition")
    shifted = {}
    for number, (name, own) in enumerate(sorted(records.items())):
        scanner = scanner_of(number, strength=strength, seed=seed)
        if isinstance(own.inputs, LazyInputs):
            shifted[name] = own.with_inputs(LazyInputs(_Scanned(own.inputs, scanner)))
        else:
            rows = np.arange(len(own), dtype=np.int64)
            shifted[name] = own.with_inputs(scanner.scan(own.inputs, rows))
    return shifted
