"""Where a convolution looks: the patches of maps that its outputs are made of.

A patch is the inputs that meet the kernel's weights at one position of the output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Window:
    """Where a convolution looks: a number for each axis of space."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def places(self) -> int:
        """How many places of a kernel there are."""
        return math.prod(self.kernel)

    @property
    def copies(self) -> bool:
        """Whether outputs are made of others' inputs, so that maps are no patches as they lie."""
        return self.places > 1 or set(self.stride) != {1}

    def outputs(self, space: Sequence[int]) -> list[int]:
        """Return how many outputs there are along each axis of maps."""
        axes = zip(space, self.padding, self.kernel, self.stride, self.dilation, strict=True)
        return [
            (side + 2 * beside - reach * (width - 1) - 1) // step + 1
            for side, beside, width, step, reach in axes
        ]

    def patches(self, maps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return what each output was made of: ``[n, c, *space] -> [n, positions, places * c]``.

        Channels last: they are copied many at a time, and maps of that format are as they lie. What
        is returned may lie in the maps' own memory.
        """
        outputs = self.outputs(maps.shape[2:])
        if any(self.padding):
            maps = functional.pad(maps, [side for side in self.padding[::-1] for _ in range(2)])
        last = maps.movedim(1, -1).contiguous()
        if not self.copies:
            return last.flatten(1, -2).to(dtype)
        strides = last.stride()[1:-1]
        steps = [one * step for one, step in zip(strides, self.stride, strict=True)]
        reach = [one * step for one, step in zip(strides, self.dilation, strict=True)]
        shape = (len(maps), *outputs, *self.kernel, maps.shape[1])
        seen = last.as_strided(shape, (last.stride()[0], *steps, *reach, 1))
        flat = (len(maps), math.prod(outputs), self.places * maps.shape[1])
        return _copied(seen, dtype).reshape(flat)

    def gram(self, maps: torch.Tensor) -> torch.Tensor:
        """Return products of patches with one another, from those of pixels.

        Those of pixels are fewer, and each is in as many of the others as a kernel has places.

        Args:
            maps: ``[m, k, channels, *space]``, of the k records of each patient.

        Returns:
            ``[m, k * positions, k * positions]``.
        """
        pixels = maps.movedim(2, -1).flatten(1, -2)
        side = (maps.shape[1], *maps.shape[3:])
        found = (pixels @ pixels.mT).reshape(len(maps), *side, *side)
        pads = [one for one in self.padding[::-1] for _ in range(2)]
        found = functional.pad(found, [*pads, 0, 0, *pads])
        outputs = self.outputs(maps.shape[3:])
        summed = found.new_zeros((len(maps), *(maps.shape[1], *outputs) * 2))
        for place in itertools.product(*map(range, self.kernel)):
            axes = zip(place, self.dilation, self.stride, outputs, strict=True)
            cut = [
                slice(at * reach, at * reach + step * (n - 1) + 1, step)
                for at, reach, step, n in axes
            ]
            summed += found[(slice(None), slice(None), *cut, slice(None), *cut)]
        return summed.flatten(1, 1 + len(outputs)).flatten(2)


def _copied(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return values of a type, one after the other in memory."""
    return torch.empty(values.shape, dtype=dtype, device=values.device).copy_(values)
