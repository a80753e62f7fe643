"""A small U-Net with GroupNorm, for pictures and volumes: a class for each pixel or voxel."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from clients.data.records import DatasetInfo
from clients.models.small import centre

#: Channels at each size; every next size is half of the one before.
WIDTHS = (8, 16, 32)
#: Groups of channels that are normed together, within a record.
_GROUPS = 4


class UNet(nn.Module):
    """Down to a quarter of the size and up again, with what was seen on the way down put beside.

    Ronneberger et al. (2015), "U-Net", with norms over groups of channels in the place of those
    over a batch, which would mix patients. What is enlarged is repeated and then convolved, so that
    every layer that learns is a plain convolution, of which there are gradients by record. Sides of
    any length: what is enlarged is brought to the size that was there.

    Args:
        space: 2 for pictures, 3 for volumes.
        channels: of a record.
        outputs: of each pixel.
        normed: brings a record's values to [-1, 1].
    """

    def __init__(self, space: int, channels: int, outputs: int, normed: nn.Module) -> None:
        super().__init__()
        convolution = nn.Conv2d if space == 2 else nn.Conv3d

        def block(into: int, out: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for width in (into, out):
                layers += [convolution(width, out, 3, padding=1), nn.GroupNorm(_GROUPS, out)]
                layers.append(nn.Tanh())
            return nn.Sequential(*layers)

        self.normed = normed
        before = (channels, *WIDTHS[:-1])
        self.down = nn.ModuleList(block(a, b) for a, b in zip(before, WIDTHS, strict=True))
        pairs = list(pairwise(WIDTHS))[::-1]
        self.up = nn.ModuleList(block(a + b, a) for a, b in pairs)
        self.halved = nn.AvgPool2d(2) if space == 2 else nn.AvgPool3d(2)
        self.head = convolution(WIDTHS[0], outputs, 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, outputs, *space]`` of records ``[n, channels, *space]``."""
        found, beside = self.normed(records), []
        for number, block in enumerate(self.down):
            found = block(self.halved(found) if number else found)
            beside.append(found)
        for block, seen in zip(self.up, beside[-2::-1], strict=True):
            larger = functional.interpolate(found, size=seen.shape[2:], mode="nearest")
            found = block(torch.cat([seen, larger], dim=1))
        outputs: torch.Tensor = self.head(found)
        return outputs


def unet(info: DatasetInfo) -> nn.Module:
    """Return the U-Net for records of this form, of sides of four and up."""
    space = len(info.shape) - 1
    return UNet(space, info.shape[0], info.outputs, centre(info))
